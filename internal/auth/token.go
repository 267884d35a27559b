package auth

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/shannon-mcp/shannon"
)

// TokenFile is the name of the token's file in the home folder.
const TokenFile = "token"

// prefix lets secret scanners and people recognise a token.
const prefix = "shn_"

// tokenForm is what a token file may hold: a b64token (RFC 6750, 2.1) that is
// too long to be guessed.
var tokenForm = regexp.MustCompile(`^[A-Za-z0-9._~+/-]{20,512}=*$`)

// recheck is how long a token that was rotated by another process stays valid.
const recheck = time.Second

// Tokens is the bearer token of a home folder. All methods may be called
// concurrently, also by several processes.
type Tokens struct {
	path string

	mu      sync.Mutex
	token   string
	sum     [sha256.Size]byte
	seen    os.FileInfo // the file that token was read from
	checked time.Time
}

// OpenTokens reads the token of a home folder, and makes it first if there is
// none. Other users' access to the file is taken away.
func OpenTokens(home string) (*Tokens, error) {
	t := &Tokens{path: filepath.Join(home, TokenFile)}
	t.mu.Lock()
	defer t.mu.Unlock()
	err := t.loadLocked()
	if errors.Is(err, fs.ErrNotExist) {
		if err = t.createLocked(); err != nil {
			return nil, err
		}
		err = t.loadLocked()
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Path returns where the token is kept.
func (t *Tokens) Path() string { return t.path }

// Token returns the token.
func (t *Tokens) Token() shannon.Secret {
	t.mu.Lock()
	defer t.mu.Unlock()
	return shannon.Secret(t.token)
}

// Rotate replaces the token. The old one opens nothing new from now on here, and
// from a second later on in other processes; what it has opened goes on.
func (t *Tokens) Rotate() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	name, err := t.writeLocked()
	if err != nil {
		return err
	}
	if err := os.Rename(name, t.path); err != nil {
		return errors.Join(fmt.Errorf("replace token: %w", err), os.Remove(name))
	}
	return t.loadLocked()
}

// Valid tells whether token is the token, in a time that does not depend on how
// much of it is right.
func (t *Tokens) Valid(token string) bool {
	sum := sha256.Sum256([]byte(token))
	want := t.current()
	return subtle.ConstantTimeCompare(sum[:], want[:]) == 1
}

// current returns the sum of the token, read anew if another process rotated it.
func (t *Tokens) current() [sha256.Size]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := time.Now(); now.Sub(t.checked) >= recheck {
		t.checked = now
		// A file that is gone or unreadable changes nothing: the token in memory stays.
		info, err := os.Stat(t.path)
		if err == nil && (!os.SameFile(info, t.seen) || !info.ModTime().Equal(t.seen.ModTime())) {
			_ = t.loadLocked()
		}
	}
	return t.sum
}

func (t *Tokens) loadLocked() error {
	info, err := os.Stat(t.path)
	if err != nil {
		return fmt.Errorf("find token: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(t.path, 0o600); err != nil {
			return fmt.Errorf("close token to other users: %w", err)
		}
	}
	text, err := os.ReadFile(t.path)
	if err != nil {
		return fmt.Errorf("read token: %w", err)
	}
	text = bytes.TrimSpace(text)
	if !tokenForm.Match(text) {
		return shannon.Errorf(shannon.CodeInvalidConfig, "Delete it; a new one is made at the next start",
			"%s holds no token", t.path)
	}
	t.token, t.sum, t.seen, t.checked = string(text), sha256.Sum256(text), info, time.Now()
	return nil
}

// createLocked makes the file as a whole or not at all. Of several processes
// that try at once, one wins, and all read the winner's token.
func (t *Tokens) createLocked() error {
	name, err := t.writeLocked()
	if err != nil {
		return err
	}
	err = os.Link(name, t.path)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return os.Remove(name)
	}
	// Not every file system has links; there the last one wins.
	if err := os.Rename(name, t.path); err != nil {
		return errors.Join(fmt.Errorf("create token: %w", err), os.Remove(name))
	}
	return nil
}

// writeLocked writes a new token beside the file; it returns the name.
func (t *Tokens) writeLocked() (string, error) {
	f, err := os.CreateTemp(filepath.Dir(t.path), "."+TokenFile+"-*") // 0600
	if err != nil {
		return "", fmt.Errorf("create token: %w", err)
	}
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails
	_, err = f.WriteString(prefix + base64.RawURLEncoding.EncodeToString(random) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("write token: %w", err), os.Remove(f.Name()))
	}
	return f.Name(), nil
}
