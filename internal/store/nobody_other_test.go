//go:build !linux

package store

import "syscall"

func asNobody() (*syscall.SysProcAttr, bool) { return nil, false }
