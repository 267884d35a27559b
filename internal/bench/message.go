package main

import "bytes"

// members calls visit with each key, without its quotes, and each value of a
// JSON object, both as they stand. It reports whether the object is complete. It is a
// reader for known peers: it finds its way by brackets and quotes only.
func members(object []byte, visit func(key, value []byte)) bool {
	i := skipSpace(object, 0)
	if i == len(object) || object[i] != '{' {
		return false
	}
	i = skipSpace(object, i+1)
	for i < len(object) && object[i] == '"' {
		keyEnd := skipString(object, i)
		colon := skipSpace(object, keyEnd)
		if colon == len(object) || object[colon] != ':' {
			return false
		}
		start := skipSpace(object, colon+1)
		end := skipValue(object, start)
		if end == start {
			return false
		}
		visit(object[i+1:keyEnd-1], object[start:end])
		i = skipSpace(object, end)
		if i < len(object) && object[i] == ',' {
			i = skipSpace(object, i+1)
		}
	}
	return i < len(object) && object[i] == '}'
}

// member returns one value of a JSON object, nil when it is missing.
func member(object []byte, name string) (found []byte) {
	members(object, func(key, value []byte) {
		if string(key) == name {
			found = value
		}
	})
	return found
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// skipString returns the index behind the string that begins at i, len(b) if it
// does not end.
func skipString(b []byte, i int) int {
	i++
	for {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return len(b)
		}
		end := i + n
		first := end
		for first > i && b[first-1] == '\\' {
			first--
		}
		i = end + 1
		if (end-first)%2 == 0 {
			return i
		}
	}
}

// skipValue returns the index behind the value that begins at i.
func skipValue(b []byte, i int) int {
	for depth := 0; i < len(b); {
		switch b[i] {
		case '"':
			i = skipString(b, i)
		case '{', '[':
			depth++
			i++
		case '}', ']':
			if depth == 0 {
				return i
			}
			depth--
			i++
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
			i++
			continue
		default:
			i++
			continue
		}
		if depth == 0 {
			return i
		}
	}
	return i
}
