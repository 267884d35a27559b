package process

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// PortHolder finds the process that listens on a TCP port of this machine, as far
// as this user may see it.
func PortHolder(port int) (pid int, name string, ok bool) {
	inode := listeningInode(port)
	if inode == "" {
		return 0, "", false
	}
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return 0, "", false
	}
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err != nil || target != "socket:["+inode+"]" {
			continue
		}
		dir := strings.SplitN(fd, "/", 4)[2]
		pid, err := strconv.Atoi(dir)
		if err != nil {
			continue
		}
		comm, err := os.ReadFile("/proc/" + dir + "/comm")
		if err != nil {
			return pid, "a program", true // it ended just now; its pid was found
		}
		return pid, strings.TrimSpace(string(comm)), true
	}
	return 0, "", false
}

// listeningInode returns the inode of the socket that listens on port, "" if none.
func listeningInode(port int) string {
	const listen = "0A"
	suffix := fmt.Sprintf(":%04X", port)
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue
		}
		inode := ""
		for scan := bufio.NewScanner(f); inode == "" && scan.Scan(); {
			if col := strings.Fields(scan.Text()); len(col) > 9 && strings.HasSuffix(col[1], suffix) && col[3] == listen {
				inode = col[9]
			}
		}
		_ = f.Close() // it was only read
		if inode != "" {
			return inode
		}
	}
	return ""
}
