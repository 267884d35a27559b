//go:build unix

package store

import (
	"os"
	"syscall"
)

// writable tells whether path may be written, by its permission bits as well as
// by asking the system: bits do not stop root, but somebody set them on purpose,
// and a read-only mount shows in no bit. It opens nothing, because closing would
// drop the locks of a store in this process.
func writable(path string) bool {
	const wOK = 2
	info, err := os.Stat(path)
	return err == nil && info.Mode().Perm()&0o222 != 0 && syscall.Access(path, wOK) == nil
}
