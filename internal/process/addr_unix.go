//go:build unix

package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// AddressInUse tells whether a listener could not be opened because another has
// its address.
func AddressInUse(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }

// RuntimeDir returns a folder with a short path that only this user may enter.
func RuntimeDir() (string, error) {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		if info, err := os.Stat(dir); err == nil && info.IsDir() { //nolint:gosec // the user names the folder of the user
			return dir, nil
		}
	}
	dir := filepath.Join("/tmp", "shannon-"+strconv.Itoa(os.Getuid()))
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("make runtime folder: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", fmt.Errorf("check runtime folder: %w", err)
	}
	// In a folder that everybody writes to, somebody else may have been first.
	if sys, ok := info.Sys().(*syscall.Stat_t); !ok || !info.IsDir() || info.Mode().Perm() != 0o700 || int(sys.Uid) != os.Getuid() {
		return "", fmt.Errorf("runtime folder %s is not ours alone", dir)
	}
	return dir, nil
}
