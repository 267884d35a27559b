package process

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// bootID names this boot of the machine; empty where it cannot be read.
var bootID = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
})

// readProc reads one process, without its mark.
func readProc(pid int) (proc, error) {
	stat, err := readAll("/proc/"+strconv.Itoa(pid)+"/stat", make([]byte, 1024))
	if err != nil {
		return proc{}, fmt.Errorf("read state of process %d: %w", pid, err)
	}
	return parseStat(pid, stat)
}

// parseStat reads /proc/PID/stat. The name in it may hold anything, brackets and
// newlines too, so the fields are counted from the last bracket.
func parseStat(pid int, stat []byte) (proc, error) {
	const state, ppid, pgrp, flags, threads, start, count = 0, 1, 2, 6, 17, 19, 20
	const exiting = 0x4 // PF_EXITING of linux/sched.h, of the first thread
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < count {
		return proc{}, fmt.Errorf("read state of process %d: %w", pid, fs.ErrInvalid)
	}
	var errs [5]error
	p := proc{pid: pid}
	p.ppid, errs[0] = strconv.Atoi(string(fields[ppid]))
	p.pgid, errs[1] = strconv.Atoi(string(fields[pgrp]))
	p.start, errs[2] = strconv.ParseUint(string(fields[start]), 10, 64)
	n, err := strconv.Atoi(string(fields[threads]))
	errs[3] = err
	flag, err := strconv.ParseUint(string(fields[flags]), 10, 64)
	errs[4] = err
	zombie := fields[state][0] == 'Z' || fields[state][0] == 'X'
	// A process whose first thread has ended looks like a zombie while others run on.
	// A Go program's first thread never ends before the others.
	p.gone = zombie && n <= 1
	p.exiting = zombie || flag&exiting != 0
	return p, errors.Join(errs[:]...)
}

// snapshot reads all processes, and the marks of those started since then.
func snapshot(since uint64) ([]proc, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	buf := make([]byte, 16<<10)
	procs := make([]proc, 0, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		stat, err := readAll("/proc/"+name+"/stat", buf)
		if err != nil {
			continue // ended meanwhile
		}
		p, err := parseStat(pid, stat)
		if err != nil {
			continue
		}
		if p.start >= since && !p.gone {
			// What cannot be read belongs to others.
			environ, _ := readAll("/proc/"+name+"/environ", buf)
			p.mark = markIn(string(environ))
		}
		procs = append(procs, p)
	}
	return procs, nil
}

// readAll reads a file of /proc into buf, or a longer one. It does without os.File,
// which costs four more system calls each, in scans that read thousands.
func readAll(file string, buf []byte) ([]byte, error) {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	n := 0
	for {
		if n == len(buf) {
			buf = append(buf, make([]byte, len(buf))...)
		}
		m, err := unix.Read(fd, buf[n:])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, err
		case m == 0:
			return buf[:n], nil
		default:
			n += m
		}
	}
}

// send signals exactly the process that a scan saw: the descriptor is taken first and
// the start time compared after, so that the number cannot change hands in between.
func send(p proc, sig syscall.Signal) error {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		fd, err = -1, nil // before Linux 5.3, or forbidden by a sandbox
	}
	if err != nil {
		return err
	}
	if fd >= 0 {
		defer func() { _ = unix.Close(fd) }()
	}
	if now, err := readProc(p.pid); err != nil || now.start != p.start {
		return unix.ESRCH
	}
	if fd < 0 {
		return unix.Kill(p.pid, sig)
	}
	return unix.PidfdSendSignal(fd, sig, nil, 0)
}
