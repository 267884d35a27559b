package process

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// SZOMB and P_WEXIT of sys/proc.h.
const (
	zombie  = 5
	exiting = 0x2000
)

// bootID names this boot of the machine; empty where it cannot be read.
var bootID = sync.OnceValue(func() string {
	id, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return ""
	}
	return id
})

// readProc reads one process, without its mark.
func readProc(pid int) (proc, error) {
	k, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return proc{}, fmt.Errorf("read state of process %d: %w", pid, fs.ErrNotExist)
	}
	return fromKernel(k), nil
}

func fromKernel(k *unix.KinfoProc) proc {
	start, gone := k.Proc.P_starttime, k.Proc.P_stat == zombie
	return proc{
		pid: int(k.Proc.P_pid), ppid: int(k.Eproc.Ppid), pgid: int(k.Eproc.Pgid),
		start: uint64(start.Sec)*1e6 + uint64(start.Usec), //nolint:gosec // times are positive
		gone:  gone, exiting: gone || k.Proc.P_flag&exiting != 0,
	}
}

// snapshot reads all processes, and the marks of those started since then.
func snapshot(since uint64) ([]proc, error) {
	all, err := unix.SysctlKinfoProcSlice("kern.proc.all")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	procs := make([]proc, 0, len(all))
	for i := range all {
		p := fromKernel(&all[i])
		if p.start >= since && !p.gone {
			p.mark = markOf(p.pid)
		}
		procs = append(procs, p)
	}
	return procs, nil
}

// markOf reads the mark from what kern.procargs2 gives: a count, the path, arguments
// and environment. The system hides it for processes of others and for its own programs.
func markOf(pid int) string {
	b, err := unix.SysctlRaw("kern.procargs2", pid)
	if err != nil || len(b) < 4 {
		return ""
	}
	args := int(binary.NativeEndian.Uint32(b))
	_, rest, _ := bytes.Cut(b[4:], []byte{0}) // the path, padded with NULs
	rest = bytes.TrimLeft(rest, "\x00")
	for ; args > 0; args-- {
		_, rest, _ = bytes.Cut(rest, []byte{0})
	}
	return markIn(string(rest))
}

// send signals the process that a scan saw, if it is still the same one.
func send(p proc, sig syscall.Signal) error {
	if now, err := readProc(p.pid); err != nil || now.start != p.start {
		return unix.ESRCH
	}
	return unix.Kill(p.pid, sig)
}
