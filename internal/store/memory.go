package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/shannon-mcp/shannon"
)

// Memory is what was learnt about a server by talking to it. It holds for one
// definition: whoever recalls it compares the hash.
type Memory struct {
	ServerID       string
	DefinitionHash string // see [shannon.Server.DefinitionHash]
	Eras           []shannon.Era
	// Tools are the definitions as the server gave them, byte for byte but for
	// space around each; nil means that they are not known.
	Tools [][]byte
	At    time.Time // when; the zero time means now
}

// Remember stores m in the place of what was remembered about that server. A
// server that is not there any more is not remembered.
func (s *Store) Remember(ctx context.Context, m Memory) error {
	if m.At.IsZero() {
		m.At = s.now()
	}
	tools, err := joinTools(m.Tools)
	if err != nil {
		return fmt.Errorf("remember server %s: %w", m.ServerID, err)
	}
	eras, err := json.Marshal(m.Eras)
	if err != nil {
		return fmt.Errorf("remember server %s: %w", m.ServerID, err)
	}
	return s.write(ctx, "remember server", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO shannon_memory (server_id, definition_hash, eras, tools, remembered_at)
			SELECT id, ?, ?, ?, ? FROM mcp_servers WHERE id = ?`, m.DefinitionHash, string(eras), tools, formatTime(m.At), m.ServerID)
		return err
	})
}

// Recall returns everything remembered, by server id.
func (s *Store) Recall(ctx context.Context) (map[string]Memory, error) {
	out, err := s.recall(ctx)
	return out, s.opts.wrap("recall servers", err)
}

func (s *Store) recall(ctx context.Context) (map[string]Memory, error) {
	rows, err := s.reads.QueryContext(ctx, "SELECT server_id, definition_hash, eras, tools, remembered_at FROM shannon_memory")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // Err tells
	out := map[string]Memory{}
	for rows.Next() {
		var m Memory
		var eras, tools []byte
		var at string
		if err := rows.Scan(&m.ServerID, &m.DefinitionHash, &eras, &tools, &at); err != nil {
			return nil, err
		}
		m.At, _ = parseTime(at)
		if err := json.Unmarshal(eras, &m.Eras); err != nil {
			return nil, fmt.Errorf("read eras of server %s: %w", m.ServerID, err)
		}
		if m.Tools, err = splitTools(tools); err != nil {
			return nil, fmt.Errorf("read tools of server %s: %w", m.ServerID, err)
		}
		out[m.ServerID] = m
	}
	return out, rows.Err()
}

// joinTools makes one JSON array of the definitions. It is put together by hand,
// because encoding/json would rewrite what it encodes.
func joinTools(tools [][]byte) ([]byte, error) {
	if tools == nil {
		return nil, nil
	}
	for i, tool := range tools {
		if !json.Valid(tool) {
			return nil, fmt.Errorf("definition of tool %d is no JSON", i+1)
		}
	}
	return bytes.Join([][]byte{[]byte("["), bytes.Join(tools, []byte(",")), []byte("]")}, nil), nil
}

func splitTools(joined []byte) ([][]byte, error) {
	if joined == nil {
		return nil, nil
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(joined, &raw); err != nil {
		return nil, err
	}
	tools := make([][]byte, len(raw))
	for i := range raw {
		tools[i] = raw[i]
	}
	return tools, nil
}
