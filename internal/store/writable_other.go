//go:build !unix

package store

import "os"

// writable tells whether path may be written, by its read-only attribute. On a
// directory that attribute means something else.
func writable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && (info.IsDir() || info.Mode().Perm()&0o222 != 0)
}
