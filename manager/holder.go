package manager

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/process"
)

// Holder returns the pid of the process that is the daemon of a home folder, 0
// where none is. A process that died holds nothing, whatever the file says.
func Holder(home string) (int, error) {
	path := filepath.Join(home, lockFile)
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("read lock: %w", err)
	}
	holder, err := strconv.Atoi(string(bytes.TrimSpace(text)))
	if err != nil || holder == 0 {
		return 0, nil //nolint:nilerr // nobody has written his pid, so nobody holds it
	}
	// A daemon takes its pid out when it ends. What is there is a living one's, or
	// that of one which was killed; only then is the lock free.
	lock, holder, err := process.LockHome(path)
	if shannon.CodeOf(err) == shannon.CodeDaemonRunning {
		return holder, nil
	}
	if err != nil {
		return 0, err
	}
	return 0, lock.Close()
}
