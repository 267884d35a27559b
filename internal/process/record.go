package process

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// record is what lies on disk about a running child, so that it can be ended when its
// owner has been killed.
type record struct {
	Owner      string `json:"owner"` // the first part of the mark
	OwnerPID   int    `json:"owner_pid"`
	OwnerStart string `json:"owner_start"`
	Mark       string `json:"mark"`
	PID        int    `json:"pid,omitempty"` // zero: about to be started
	Start      string `json:"start,omitempty"`
	Command    string `json:"command"`
}

// records is a directory with one file per child; the zero value keeps nothing.
// Several owners may use one directory at once.
type records struct{ dir string }

const (
	recordPrefix = "child-"
	recordSuffix = ".json"
	ownerLength  = 32 // 128 bits in hex
)

func (r records) file(mark string) string {
	return filepath.Join(r.dir, recordPrefix+mark+recordSuffix)
}

// write puts a record in place in one step, so that other owners never see half of it.
func (r records) write(rec record) error {
	if r.dir == "" {
		return nil
	}
	b, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	file := r.file(rec.Mark)
	if err := os.WriteFile(file+".tmp", b, 0o600); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	if err := os.Rename(file+".tmp", file); err != nil {
		return fmt.Errorf("put record in place: %w", err)
	}
	return nil
}

func (r records) remove(mark string) {
	if r.dir != "" {
		_ = os.Remove(r.file(mark)) // if it stays, the next start removes it
	}
}

// dead returns the records whose owner is dead. It removes those that make no sense.
func (r records) dead() []record {
	if r.dir == "" {
		return nil
	}
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil // nothing can be known then
	}
	var dead []record
	for _, e := range entries {
		file := filepath.Join(r.dir, e.Name())
		switch {
		case !strings.HasPrefix(e.Name(), recordPrefix):
		case strings.HasSuffix(e.Name(), ".tmp"):
			if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > time.Minute {
				_ = os.Remove(file) // nobody takes that long to write it
			}
		default:
			b, err := os.ReadFile(file)
			if err != nil {
				continue // removed just now by its owner, or to be read another time
			}
			rec, ok := parseRecord(b)
			if !ok || file != r.file(rec.Mark) {
				_ = os.Remove(file)
			} else if !Alive(rec.OwnerPID, rec.OwnerStart) {
				dead = append(dead, rec)
			}
		}
	}
	return dead
}

func parseRecord(b []byte) (rec record, ok bool) {
	if json.Unmarshal(b, &rec) != nil {
		return rec, false
	}
	// An owner that is cut short would match the marks of others.
	return rec, len(rec.Owner) == ownerLength && strings.HasPrefix(rec.Mark, rec.Owner+".")
}
