//go:build unix

package mcptest

import "syscall"

// ownSession starts a process where no signal to our group reaches it.
func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
