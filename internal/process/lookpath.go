package process

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	shannon "github.com/shannon-mcp/shannon"
)

// LookPath resolves a command to an absolute path. A name is looked for in path, a list
// as in the PATH variable, of which relative entries are skipped: what they mean would
// depend on the directory. A command with a separator is relative to dir, or to our
// directory if dir is empty. The error is a [*shannon.Error]: command_not_found, or
// spawn_failed if there is a file that cannot be run.
func LookPath(command, path, dir string) (string, error) {
	if command == "" {
		return "", shannon.Errorf(shannon.CodeCommandNotFound, "Give the server a command.", "the command is empty")
	}
	if filepath.Base(command) != command || command == "." || command == ".." {
		return lookFile(command, dir)
	}
	var refused error
	for _, entry := range filepath.SplitList(path) {
		if !filepath.IsAbs(entry) {
			continue
		}
		file, err := findExecutable(filepath.Join(entry, command))
		if err == nil {
			return file, nil
		}
		if refused == nil && errors.Is(err, fs.ErrPermission) {
			refused = errNotExecutable(filepath.Join(entry, command), err)
		}
	}
	if refused != nil {
		return "", refused
	}
	hint := "The environment of the server has no PATH. Give the full path of the command, or set PATH."
	if path != "" {
		hint = "Install it, give its full path, or set PATH for the server. PATH was: " + path
	}
	return "", &shannon.Error{Err: fs.ErrNotExist, Problem: shannon.Problem{
		Code: shannon.CodeCommandNotFound, Message: fmt.Sprintf("the command %q was not found", command), Hint: hint,
	}}
}

// lookFile resolves a command that is a path.
func lookFile(command, dir string) (string, error) {
	file := command
	if !filepath.IsAbs(file) {
		abs, err := filepath.Abs(filepath.Join(dir, file))
		if err != nil {
			return "", shannon.Errorf(shannon.CodeSpawnFailed, "", "find the directory of %s: %w", command, err)
		}
		file = abs
	}
	found, err := findExecutable(file)
	switch {
	case err == nil:
		return found, nil
	case errors.Is(err, fs.ErrNotExist):
		return "", shannon.Errorf(shannon.CodeCommandNotFound, "Check the path of the command.", "the command %s does not exist: %w", file, fs.ErrNotExist)
	}
	return "", errNotExecutable(file, err)
}

func errNotExecutable(file string, err error) error {
	return shannon.Errorf(shannon.CodeSpawnFailed, "Make it executable, or start it with its interpreter.", "%s cannot be run: %w", file, err)
}

// checkDir says what is wrong with a working directory, which the error of a fork
// would not tell from a missing command.
func checkDir(dir string) error {
	if dir == "" {
		return nil
	}
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return shannon.Errorf(shannon.CodeSpawnFailed, "Make the directory, or change cwd of the server.", "the working directory %s cannot be used: %w", dir, reason(err))
	}
	return nil
}

// reason is the system's word for what went wrong, without operation and path.
func reason(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// spawnError puts the error of a start into words.
func spawnError(err error, path string, spec Spec) error {
	hint, text := "", fmt.Sprintf("start %s", path)
	switch {
	case errors.Is(err, errTooBig):
		hint = "Arguments and environment together are longer than the system allows; shorten them."
	case errors.Is(err, errFormat):
		hint = "It is neither a program for this machine nor a script with a #! line."
	case errors.Is(err, fs.ErrNotExist):
		if name := interpreter(path); name != "" {
			hint = fmt.Sprintf("Its first line names %s, which does not exist.", name)
		}
	case errors.Is(err, fs.ErrPermission):
		hint = "The system does not allow to run it; check permissions, also of " + orHere(spec.Dir) + "."
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOMEM):
		hint = "The system has no room for another process."
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		hint = "Too many files are open."
	case errors.Is(err, syscall.EINVAL):
		hint = "An argument or a variable contains a NUL character."
	}
	return shannon.Errorf(shannon.CodeSpawnFailed, hint, "%s: %w", text, reason(err))
}

func orHere(dir string) string {
	if dir == "" {
		return "the working directory"
	}
	return dir
}

// interpreter returns what a script's first line asks for, or nothing.
func interpreter(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	line, _ := bufio.NewReaderSize(f, 256).ReadSlice('\n')
	rest, ok := strings.CutPrefix(string(line), "#!")
	if fields := strings.Fields(rest); ok && len(fields) > 0 {
		return fields[0]
	}
	return ""
}
