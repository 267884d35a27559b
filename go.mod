module github.com/shannon-mcp/shannon

go 1.26
