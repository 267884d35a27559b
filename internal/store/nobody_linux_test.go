package store

import "syscall"

// asNobody makes a process run as the user nobody.
func asNobody() (*syscall.SysProcAttr, bool) {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}, true
}
