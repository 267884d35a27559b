//go:build !linux

package process

import "errors"

// Keep needs Linux; the error is errors.ErrUnsupported.
func Keep(_, _ []string) (exitCode int, err error) { return 0, errors.ErrUnsupported }

// UnderKeeper is never true here.
func UnderKeeper() (bool, error) { return false, nil }
