package contract_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/api"
	"github.com/shannon-mcp/shannon/internal/contract"
	"github.com/shannon-mcp/shannon/remote"
)

// variable names the fault of a child process of this test.
const variable = "SHANNON_CONTRACT_FAULT"

func TestMain(m *testing.M) {
	if os.Getenv(variable) != "" {
		os.Exit(m.Run()) // what a test that fails leaves behind is no matter
	}
	goleak.VerifyTestMain(m)
}

func TestFake(t *testing.T) {
	contract.Test(t, fixture, func(*testing.T) shannon.Manager { return newFake(os.Getenv(variable)) })
}

func TestRemote(t *testing.T) {
	contract.Test(t, fixture, func(t *testing.T) shannon.Manager {
		c := remote.Embed(t.Context(), api.New(newFake(""), api.Options{}))
		t.Cleanup(func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
		return c
	})
}

// TestFaults sees that the suite finds what is wrong.
func TestFaults(t *testing.T) {
	tests := []struct{ fault, foundBy string }{
		{"names may be taken twice", "AddRefuses"},
		{"filters are ignored", "List"},
		{"refused changes stay", "UpdateRefuses"},
		{"secrets are lost", "Secrets"},
		{"history goes with the server", "Remove"},
		{"connect connects again", "Connect"},
		{"results are decoded", "Call"},
		{"error objects are lost", "CallFails"},
		{"events are not filtered", "EventFilter"},
		{"nobody is told what was missed", "EventsLagged"},
	}
	for _, tt := range tests {
		t.Run(tt.fault, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFake$/^"+tt.foundBy+"$")
			cmd.Env = append(os.Environ(), variable+"="+tt.fault)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: TestFake/"+tt.foundBy) {
				t.Errorf("not found: %v\n%s", err, out)
			}
		})
	}
}
