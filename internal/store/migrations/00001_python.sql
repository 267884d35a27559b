-- The tables of the Python manager. A database that it made has them already.

-- +goose Up
CREATE TABLE IF NOT EXISTS mcp_servers (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    transport TEXT NOT NULL,
    command TEXT,
    args TEXT,
    env TEXT,
    endpoint TEXT,
    timeout INTEGER DEFAULT 30,
    retry_count INTEGER DEFAULT 3,
    retry_delay REAL DEFAULT 1.0,
    health_check_interval INTEGER DEFAULT 60,
    enabled BOOLEAN DEFAULT 1,
    config TEXT DEFAULT '{}',
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS mcp_connections (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    server_id TEXT NOT NULL,
    state TEXT NOT NULL,
    connected_at TEXT,
    disconnected_at TEXT,
    error_message TEXT,
    duration_seconds REAL
);

CREATE TABLE IF NOT EXISTS mcp_discovery_cache (
    source TEXT PRIMARY KEY,
    servers TEXT NOT NULL,
    discovered_at TEXT NOT NULL,
    expires_at TEXT NOT NULL
);
