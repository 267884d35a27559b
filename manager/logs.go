package manager

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/shannon-mcp/shannon"
)

const (
	maxLogFile = 10 << 20
	logFiles   = 3
	maxLogLine = 16 << 10
)

// logBook writes one log file per server and shows it to those who follow. A
// writer is never kept waiting by a reader.
type logBook struct {
	dir  string
	mu   sync.Mutex
	open map[string]*serverLog
}

type serverLog struct {
	file      *os.File
	size      int64
	followers map[chan shannon.LogLine]struct{}
}

func newLogBook(dir string) (*logBook, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make log directory: %w", err)
	}
	return &logBook{dir: dir, open: map[string]*serverLog{}}, nil
}

func (b *logBook) path(server string) string { return filepath.Join(b.dir, server+".log") }

// log returns the state of a server's log. The lock is held.
func (b *logBook) log(server string) *serverLog {
	l := b.open[server]
	if l == nil {
		l = &serverLog{followers: map[chan shannon.LogLine]struct{}{}}
		b.open[server] = l
	}
	return l
}

// write appends a line. A disk that is full costs the line, not the server.
func (b *logBook) write(server, source string, text string) error {
	if len(text) > maxLogLine {
		text = text[:maxLogLine] + " […]"
	}
	line := shannon.LogLine{Time: time.Now().UTC(), Source: source, Text: strings.TrimRight(text, "\r\n")}
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.log(server)
	for f := range l.followers {
		select {
		case f <- line:
		default: // it reads too slowly; the file has the line
		}
	}
	if l.file != nil && l.size > maxLogFile {
		if err := b.rotate(server, l); err != nil {
			return err
		}
	}
	if l.file == nil {
		f, err := os.OpenFile(b.path(server), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("open log: %w", err)
		}
		if info, err := f.Stat(); err == nil {
			l.size = info.Size()
		}
		l.file = f
	}
	n, err := fmt.Fprintln(l.file, line)
	l.size += int64(n)
	if err != nil {
		return fmt.Errorf("write log: %w", err)
	}
	return nil
}

// rotate moves the files up by one: x.log, x.log.1, x.log.2.
func (b *logBook) rotate(server string, l *serverLog) error {
	err := l.file.Close()
	l.file, l.size = nil, 0
	for i := logFiles - 1; i > 0; i-- {
		from := b.path(server)
		if i > 1 {
			from = fmt.Sprintf("%s.%d", from, i-1)
		}
		if e := os.Rename(from, fmt.Sprintf("%s.%d", b.path(server), i)); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		return fmt.Errorf("rotate log: %w", err)
	}
	return nil
}

// rename keeps the log of a server that has a new name.
func (b *logBook) rename(from, to string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.open[from]; l != nil {
		_ = l.close() // nothing is buffered in it
		delete(b.open, from)
		b.open[to] = l
	}
	var err error
	for i := range logFiles {
		tail := ""
		if i > 0 {
			tail = fmt.Sprintf(".%d", i)
		}
		if e := os.Rename(b.path(from)+tail, b.path(to)+tail); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// rest closes the file of a server that writes no more.
func (b *logBook) rest(server string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.open[server]
	if l == nil {
		return nil
	}
	if len(l.followers) == 0 { // else a server of this name that is added later talks to them
		delete(b.open, server)
	}
	return l.close()
}

func (l *serverLog) close() error {
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}

// follow returns a channel of new lines.
func (b *logBook) follow(server string) (lines chan shannon.LogLine, stop func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.log(server)
	lines = make(chan shannon.LogLine, 1024)
	l.followers[lines] = struct{}{}
	return lines, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(l.followers, lines)
	}
}

// tail reads the last n lines of a server's log.
func (b *logBook) tail(server string, n int) ([]shannon.LogLine, error) {
	var lines []shannon.LogLine
	for _, path := range []string{b.path(server) + ".1", b.path(server)} {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read log: %w", err)
		}
		scan := bufio.NewScanner(f)
		scan.Buffer(nil, 2*maxLogLine)
		for scan.Scan() {
			if lines = append(lines, parseLogLine(scan.Text())); len(lines)-n > n { // 2*n may not fit
				lines = append(lines[:0], lines[len(lines)-n:]...)
			}
		}
		err = errors.Join(scan.Err(), f.Close())
		if err != nil {
			return nil, fmt.Errorf("read log: %w", err)
		}
	}
	return lines[max(0, len(lines)-n):], nil
}

func parseLogLine(text string) shannon.LogLine {
	at, rest, _ := strings.Cut(text, " ")
	source, line, _ := strings.Cut(rest, " ")
	t, err := time.Parse(time.RFC3339Nano, at)
	if err != nil {
		return shannon.LogLine{Source: "shannon", Text: text} // a line that a person wrote
	}
	return shannon.LogLine{Time: t, Source: source, Text: line}
}

// close closes the files.
func (b *logBook) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var err error
	for _, l := range b.open {
		err = errors.Join(err, l.close())
	}
	return err
}

// Logs yields a server's log; see [shannon.Records].
func (m *Manager) Logs(ctx context.Context, server string, filter shannon.LogFilter) iter.Seq2[shannon.LogLine, error] {
	return func(yield func(shannon.LogLine, error) bool) {
		if _, err := m.unit(server); err != nil {
			yield(shannon.LogLine{}, err)
			return
		}
		var news chan shannon.LogLine
		if filter.Follow {
			// Followed first, so that no line falls between the file and the news.
			var stop func()
			news, stop = m.logs.follow(server)
			defer stop()
		}
		n := filter.Lines
		if n <= 0 {
			n = 100
		}
		lines, err := m.logs.tail(server, n)
		if err != nil {
			yield(shannon.LogLine{}, err)
			return
		}
		var last time.Time
		for _, l := range lines {
			last = l.Time
			if !yield(l, nil) {
				return
			}
		}
		for filter.Follow {
			select {
			case l := <-news:
				if l.Time.After(last) && !yield(l, nil) {
					return
				}
			case <-ctx.Done():
				return
			case <-m.ending:
				return
			}
		}
	}
}
