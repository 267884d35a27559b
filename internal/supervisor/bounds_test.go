package supervisor

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/shannon-mcp/shannon"
)

// Every page is within the limit of a message, and all of them together are too much.
func TestListsOfAnySizeEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		page := `{"tools":[{"name":"x","description":"` + strings.Repeat("x", 1<<20) + `"}],"nextCursor":"more"}`
		r := rigFor(t, server(), func(r *rig, _ *Options) {
			r.reach(func(context.Context, shannon.Era) (*peer, error) {
				p := newPeer(shannon.EraLegacy, legacyOnly)
				p.lists = func(string) (string, error) { return page, nil }
				return p, nil
			})
		})
		synctest.Wait()
		if n := r.last().calls("tools/list"); n > maxListSize>>20+1 {
			t.Errorf("%d pages of a megabyte were read", n)
		}
		r.wantState(shannon.StateConnected, shannon.CodeProtocolError)
	})
}
