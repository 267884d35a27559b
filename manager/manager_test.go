package manager_test

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/contract"
	"github.com/shannon-mcp/shannon/internal/mcptest"
	"github.com/shannon-mcp/shannon/manager"
	"github.com/shannon-mcp/shannon/remote"
)

func TestMain(m *testing.M) {
	mcptest.Main()
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			code = 1
		}
	}
	os.Exit(code)
}

// open opens a manager on an empty home.
func open(t *testing.T, home string) *manager.Manager {
	t.Helper()
	m, err := manager.Open(t.Context(), manager.Config{Home: home}, manager.Options{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := m.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return m
}

// fake is the definition of a scripted server.
func fake(t *testing.T, name string, script mcptest.Script) shannon.Server {
	t.Helper()
	s := shannon.NewServer(name)
	s.Transport = shannon.TransportStdio
	var env map[string]string
	s.Command, s.Args, env = mcptest.Command(t, script)
	s.Env = map[string]shannon.Secret{}
	for k, v := range env {
		s.Env[k] = shannon.Secret(v)
	}
	return s
}

func fixture(t *testing.T) *contract.Fixture {
	s := fake(t, "fixture", mcptest.Script{Versions: []string{"2025-11-25"}, Child: mcptest.ChildScript{Stderr: "the fixture is up\n"}})
	return &contract.Fixture{
		Command: s.Command, Args: s.Args, Env: s.Env, Stderr: "the fixture is up",
		Tool: contract.Exchange{
			Name: "exact",
			In:   `{"result":{"content":[{"type":"unheard-of","n":9007199254740993, "z":1.10}],"x":{"y":null},"t":"\u00e9\/"}}`,
			Out:  `{"content":[{"type":"unheard-of","n":9007199254740993, "z":1.10}],"x":{"y":null},"t":"\u00e9\/"}`,
		},
		Fails:   contract.Exchange{Name: "rpcerror", In: `{"code":-32050,"message":"no","data":{"n":9007199254740993}}`, Out: `{"code":-32050,"message":"no","data":{"n":9007199254740993}}`},
		Slow:    "hang",
		Request: contract.Exchange{Name: "x/echo", In: `{"n":9007199254740993,"k":"v"}`, Out: `{"params":{"n":9007199254740993,"k":"v"}}`},
	}
}

func TestContract(t *testing.T) {
	t.Run("manager", func(t *testing.T) {
		contract.Test(t, fixture(t), func(t *testing.T) shannon.Manager { return open(t, t.TempDir()) })
	})
	t.Run("remote", func(t *testing.T) {
		contract.Test(t, fixture(t), func(t *testing.T) shannon.Manager {
			c := remote.Embed(context.Background(), open(t, t.TempDir()).Handler())
			t.Cleanup(func() {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			})
			return c
		})
	})
}

// eventually waits for what comes by itself.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

func second[T any](_ T, err error) error { return err }
