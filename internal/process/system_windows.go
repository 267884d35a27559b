package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Errors of starting a program that only this system has.
const (
	errTooBig = windows.ERROR_FILENAME_EXCED_RANGE
	errFormat = windows.ERROR_BAD_EXE_FORMAT
)

// stillActive is the exit code of a process that has none yet.
const stillActive = 259

// spawnAttributes: no console window, and a group of its own, so that a console's
// Ctrl-C reaches us only.
func spawnAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{HideWindow: true, CreationFlags: windows.CREATE_NO_WINDOW | windows.CREATE_NEW_PROCESS_GROUP}
}

// system is what the operating system knows of this process as an owner of children.
type system struct {
	self    int
	start   string // identity of self
	reaping bool   // never: a job object ends with its last handle, whoever held it
}

func newSystem(bool) (*system, error) {
	s := &system{self: os.Getpid()}
	var err error
	if s.start, err = Identity(s.self); err != nil {
		return nil, fmt.Errorf("identify this process: %w", err)
	}
	return s, nil
}

func (s *system) reapAdopted(<-chan struct{}) {}

func (s *system) killAdopted() bool { return true }

// killLeftovers has nothing to do: what was in a job ended with its owner.
func (s *system) killLeftovers([]record) (found, denied int) { return 0, 0 }

// tree is the job object of a child, which its descendants cannot leave.
type tree struct {
	job   windows.Handle // zero if there is none; then only the process itself is ended
	proc  *os.Process
	start string
}

// startProcess starts a process and puts it into a job object. What it starts in the
// moment between is not in the job.
func (s *system) startProcess(_ string, start func() (*os.Process, error)) (*os.Process, *tree, error) {
	p, err := start()
	if err != nil {
		return nil, nil, err
	}
	t := &tree{proc: p}
	t.start, _ = Identity(p.Pid) // it is only for the record
	if t.job, err = newJob(p.Pid); err != nil {
		t.job = 0
	}
	return p, t, nil
}

func newJob(pid int) (windows.Handle, error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return 0, fmt.Errorf("create job object: %w", err)
	}
	info := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{}
	info.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	_, err = windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation, uintptr(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info)))
	if err == nil {
		var h windows.Handle
		h, err = windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE, false, uint32(pid))
		if err == nil {
			err = windows.AssignProcessToJobObject(job, h)
			_ = windows.CloseHandle(h)
		}
	}
	if err != nil {
		_ = windows.CloseHandle(job)
		return 0, fmt.Errorf("put process into job object: %w", err)
	}
	return job, nil
}

func (t *tree) identity() string { return t.start }

// terminate finds nothing, since there is no signal to send; the ladder goes on to kill.
func (t *tree) terminate() int { return 0 }

func (t *tree) alive() int { return t.active() }

func (t *tree) denied() int { return 0 }

// kill ends the tree and returns how many of it were found.
func (t *tree) kill() int {
	n := t.active()
	if t.job != 0 {
		_ = windows.TerminateJobObject(t.job, 1)
	}
	_ = t.proc.Kill()
	return n
}

// accounting is JOBOBJECT_BASIC_ACCOUNTING_INFORMATION.
type accounting struct {
	TotalUserTime, TotalKernelTime           int64
	ThisPeriodUserTime, ThisPeriodKernelTime int64
	PageFaults, Processes, Active, Ended     uint32
}

func (t *tree) active() int {
	var a accounting
	if t.job != 0 && windows.QueryInformationJobObject(t.job, windows.JobObjectBasicAccountingInformation, uintptr(unsafe.Pointer(&a)), uint32(unsafe.Sizeof(a)), nil) == nil {
		return int(a.Active)
	}
	if Alive(t.proc.Pid, t.start) {
		return 1
	}
	return 0
}

// reap waits for the process.
func (t *tree) reap(p *os.Process) (*os.ProcessState, error) {
	state, err := p.Wait()
	if err != nil {
		return nil, fmt.Errorf("wait for process: %w", err)
	}
	return state, nil
}

// release closes the job object.
func (t *tree) release() {
	if t.job != 0 {
		_ = windows.CloseHandle(t.job)
	}
}

// Identity returns what, with its pid, names a process for ever: the time of its
// creation. The error is fs.ErrNotExist if there is none.
func Identity(pid int) (start string, err error) {
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid))
	if err != nil {
		if errors.Is(err, windows.ERROR_INVALID_PARAMETER) {
			err = fs.ErrNotExist
		}
		return "", fmt.Errorf("open process %d: %w", pid, err)
	}
	defer func() { _ = windows.CloseHandle(h) }()
	var code uint32
	if windows.GetExitCodeProcess(h, &code) == nil && code != stillActive {
		return "", fmt.Errorf("open process %d: %w", pid, fs.ErrNotExist)
	}
	var created, ended, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(h, &created, &ended, &kernel, &user); err != nil {
		return "", fmt.Errorf("read start of process %d: %w", pid, err)
	}
	return strconv.FormatInt(created.Nanoseconds(), 10), nil
}

// Alive says whether the process that [Identity] named still runs.
func Alive(pid int, start string) bool {
	now, err := Identity(pid)
	return err == nil && now == start
}

// findExecutable returns file, or file with one of the endings that make a program.
func findExecutable(file string) (string, error) {
	endings := filepath.SplitList(strings.ToLower(os.Getenv("PATHEXT")))
	if len(endings) == 0 {
		endings = []string{".com", ".exe", ".bat", ".cmd"}
	}
	candidates := make([]string, 0, len(endings)+1)
	if slices.Contains(endings, strings.ToLower(filepath.Ext(file))) {
		candidates = append(candidates, file)
	}
	for _, ending := range endings {
		candidates = append(candidates, file+ending)
	}
	for _, c := range candidates {
		if info, err := os.Stat(c); err == nil && !info.IsDir() {
			return c, nil
		}
	}
	if info, err := os.Stat(file); err == nil && !info.IsDir() {
		return "", fs.ErrPermission // it is there, but nothing that can be started
	}
	return "", fs.ErrNotExist
}

func signalName(s syscall.Signal) string { return s.String() }
