package auth

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shannon-mcp/shannon"
)

func open(t *testing.T, home string) *Tokens {
	t.Helper()
	tokens, err := OpenTokens(home)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func TestTokenIsMadeAndKept(t *testing.T) {
	home := t.TempDir()
	tokens := open(t, home)
	token := tokens.Token().Reveal()
	if !strings.HasPrefix(token, "shn_") || len(token) != len("shn_")+43 {
		t.Errorf("token %q has not 256 bits", token)
	}
	if tokens.Path() != filepath.Join(home, "token") {
		t.Errorf("path %q", tokens.Path())
	}
	info, err := os.Stat(tokens.Path())
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if again := open(t, home).Token().Reveal(); again != token {
		t.Errorf("opened again: %q, want %q", again, token)
	}
	if other := open(t, t.TempDir()).Token().Reveal(); other == token {
		t.Error("two homes have the same token")
	}
	if files, _ := os.ReadDir(home); len(files) != 1 {
		t.Errorf("the home holds %v", files)
	}
}

func TestTokenIsMadeOnce(t *testing.T) {
	home := t.TempDir()
	got := make([]string, 16)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			if tokens, err := OpenTokens(home); err == nil {
				got[i] = tokens.Token().Reveal()
			}
		})
	}
	wg.Wait()
	for _, token := range got {
		if token == "" || token != got[0] {
			t.Fatalf("several tokens: %v", got)
		}
	}
}

func TestTokenFile(t *testing.T) {
	tests := []struct {
		name, content string
		ok            bool
	}{
		{"own", "my-own-long-enough-token\n", true},
		{"empty", "", false},
		{"short", "abc", false},
		{"two lines", strings.Repeat("a", 30) + "\n" + strings.Repeat("b", 30), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			home := t.TempDir()
			if err := os.WriteFile(filepath.Join(home, "token"), []byte(tt.content), 0o644); err != nil {
				t.Fatal(err)
			}
			tokens, err := OpenTokens(home)
			if tt.ok != (err == nil) {
				t.Fatalf("error %v", err)
			}
			if err != nil {
				if shannon.CodeOf(err) != shannon.CodeInvalidConfig || strings.Contains(err.Error(), strings.TrimSpace(tt.content)) && tt.content != "" {
					t.Errorf("error %v", err)
				}
				return
			}
			if info, _ := os.Stat(tokens.Path()); info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v: others can read it", info.Mode())
			}
		})
	}
	if _, err := OpenTokens(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a home that does not exist has a token")
	}
}

func TestRotate(t *testing.T) {
	home := t.TempDir()
	daemon, command := open(t, home), open(t, home)
	old := daemon.Token().Reveal()
	if err := command.Rotate(); err != nil {
		t.Fatal(err)
	}
	token := command.Token().Reveal()
	if token == old || command.Valid(old) || !command.Valid(token) {
		t.Error("rotating did not replace the token")
	}
	for deadline := time.Now().Add(5 * time.Second); daemon.Valid(old); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("another process still accepts the old token")
		}
	}
	if !daemon.Valid(token) {
		t.Error("another process refuses the new token")
	}
	if err := os.Remove(daemon.Path()); err != nil {
		t.Fatal(err)
	}
	daemon.checked = time.Time{}
	if !daemon.Valid(token) || daemon.Valid("") {
		t.Error("losing the file changed what is valid")
	}
}
