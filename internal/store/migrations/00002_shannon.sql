-- What Shannon knows beyond the Python manager.

-- +goose Up
ALTER TABLE mcp_servers ADD COLUMN title TEXT;
ALTER TABLE mcp_servers ADD COLUMN description TEXT;
ALTER TABLE mcp_servers ADD COLUMN cwd TEXT;
ALTER TABLE mcp_servers ADD COLUMN headers TEXT;
ALTER TABLE mcp_servers ADD COLUMN prefix TEXT;
ALTER TABLE mcp_servers ADD COLUMN isolation TEXT NOT NULL DEFAULT 'auto';
ALTER TABLE mcp_servers ADD COLUMN start TEXT NOT NULL DEFAULT 'eager';
ALTER TABLE mcp_servers ADD COLUMN request_timeout REAL;

-- SQLite lets the key of such a table be NULL.
UPDATE mcp_servers SET id = 'srv_' || lower(hex(randomblob(13))) WHERE id IS NULL;

-- The ledger is made anew, because a foreign key cannot be dropped: history
-- survives the removal of its server.
CREATE TABLE ledger (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    server_id TEXT NOT NULL,
    state TEXT NOT NULL,
    connected_at TEXT,
    disconnected_at TEXT,
    error_message TEXT,
    duration_seconds REAL,
    server_name TEXT,
    cause TEXT,
    problem TEXT,
    attempt INTEGER,
    era TEXT,
    version TEXT,
    pid INTEGER,
    command TEXT,
    handshake_ms INTEGER,
    exit_code INTEGER,
    signal TEXT,
    stderr TEXT,
    next_retry TEXT,
    migrated INTEGER NOT NULL DEFAULT 0
);

INSERT INTO ledger (id, server_id, state, connected_at, disconnected_at, error_message, duration_seconds, server_name, migrated)
SELECT c.id, c.server_id, c.state, c.connected_at, c.disconnected_at, c.error_message, c.duration_seconds,
    (SELECT s.name FROM mcp_servers s WHERE s.id = c.server_id), 1
FROM mcp_connections c;

-- Ids of deleted rows are not given again either.
DELETE FROM sqlite_sequence WHERE name = 'ledger';
INSERT INTO sqlite_sequence (name, seq) SELECT 'ledger', seq FROM sqlite_sequence WHERE name = 'mcp_connections';

DROP TABLE mcp_connections;
ALTER TABLE ledger RENAME TO mcp_connections;

CREATE INDEX mcp_connections_server ON mcp_connections (server_id, id);
CREATE INDEX mcp_connections_name ON mcp_connections (server_name);
CREATE INDEX mcp_connections_open ON mcp_connections (server_id) WHERE disconnected_at IS NULL AND migrated = 0;

CREATE TABLE shannon_memory (
    server_id TEXT PRIMARY KEY,
    definition_hash TEXT NOT NULL,
    eras TEXT NOT NULL,
    tools BLOB,
    remembered_at TEXT NOT NULL
);
