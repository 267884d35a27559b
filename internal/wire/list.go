package wire

import (
	"encoding/json"
	"slices"
)

// ParseList splits a list result of a server into its definitions and the cursor
// of the next page. key is the member that holds the list.
func ParseList(result []byte, key string) (items [][]byte, cursor string, ok bool) {
	list := Member(result, key)
	if len(list) == 0 || list[0] != '[' {
		return nil, "", false
	}
	for item := range Elements(list) {
		items = append(items, slices.Clone(item))
	}
	if raw := Member(result, "nextCursor"); raw != nil && string(raw) != "null" {
		if json.Unmarshal(raw, &cursor) != nil {
			return nil, "", false
		}
	}
	return items, cursor, true
}
