package process

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// AddressInUse tells whether a listener could not be opened because another has
// its address.
func AddressInUse(err error) bool { return errors.Is(err, windows.WSAEADDRINUSE) }

// RuntimeDir returns a folder with a short path that only this user may enter.
func RuntimeDir() (string, error) { return os.TempDir(), nil }
