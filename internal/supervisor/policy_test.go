package supervisor

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/shannon-mcp/shannon"
)

func TestDecide(t *testing.T) {
	const s, m = time.Second, time.Minute
	tests := []struct {
		name string
		f    failure
		want decision
	}{
		{"first", failure{Attempt: 1, Code: shannon.CodeUnreachable, RetryDelay: s}, decision{Delay: s, Code: shannon.CodeUnreachable}},
		{"it doubles", failure{Attempt: 4, Code: shannon.CodeUnreachable, RetryDelay: s}, decision{Delay: 8 * s, Code: shannon.CodeUnreachable}},
		{"up to a minute", failure{Attempt: 10, Code: shannon.CodeUnreachable, RetryDelay: s}, decision{Delay: m, Code: shannon.CodeUnreachable}},
		{"then five", failure{Attempt: 11, Code: shannon.CodeUnreachable, RetryDelay: s}, decision{Delay: 5 * m, Code: shannon.CodeUnreachable}},
		{"and stays so", failure{Attempt: 1 << 40, Code: shannon.CodeUnreachable, RetryDelay: s}, decision{Delay: 5 * m, Code: shannon.CodeUnreachable}},
		{"no delay is a short one", failure{Attempt: 1, Code: shannon.CodeExited}, decision{Delay: s / 10, Code: shannon.CodeExited}},
		{"a long delay is cut", failure{Attempt: 1, Code: shannon.CodeExited, RetryDelay: time.Hour}, decision{Delay: m, Code: shannon.CodeExited}},
		{"jitter adds a fifth at most", failure{Attempt: 1, Code: shannon.CodeExited, RetryDelay: 10 * s, Jitter: 1}, decision{Delay: 12 * s, Code: shannon.CodeExited}},
		{"the vendor's word counts", failure{Attempt: 1, Code: shannon.CodeQuota, RetryDelay: s, RetryAfter: time.Hour}, decision{Delay: time.Hour, Code: shannon.CodeQuota}},
		{"but shortens nothing", failure{Attempt: 11, Code: shannon.CodeQuota, RetryDelay: s, RetryAfter: s}, decision{Delay: 5 * m, Code: shannon.CodeQuota}},
		{"the day's credit counts", failure{Attempt: 1, Code: shannon.CodeExited, RetryDelay: s, Credit: 4 * m}, decision{Delay: 4 * m, Code: shannon.CodeExited}},
		{"four exits are no loop", failure{Attempt: 4, Code: shannon.CodeExited, RetryDelay: s}, decision{Delay: 8 * s, Code: shannon.CodeExited}},
		{"five are", failure{Attempt: 5, Code: shannon.CodeExited, RetryDelay: s}, decision{Delay: 16 * s, Code: shannon.CodeCrashLoop}},
		{"five of another kind are not", failure{Attempt: 5, Code: shannon.CodeUnreachable, RetryDelay: s}, decision{Delay: 16 * s, Code: shannon.CodeUnreachable}},
		{"credentials park", failure{Attempt: 1, Code: shannon.CodeNeedsAuth, RetryDelay: s}, decision{Park: true, Code: shannon.CodeNeedsAuth}},
		{"an unknown transport parks", failure{Attempt: 1, Code: shannon.CodeBadTransport}, decision{Park: true, Code: shannon.CodeBadTransport}},
		{"a definition that cannot work parks", failure{Attempt: 9, Code: shannon.CodeInvalidServer}, decision{Park: true, Code: shannon.CodeInvalidServer}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := decide(tt.f); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	tests := []struct {
		name    string
		h       health
		errs    int
		replace bool
	}{
		{"first", health{Errors: 0, RetryCount: 3}, 1, false},
		{"last but one", health{Errors: 1, RetryCount: 3}, 2, false},
		{"last", health{Errors: 2, RetryCount: 3}, 3, true},
		{"zero is one", health{Errors: 0, RetryCount: 0}, 1, true},
		{"during a call", health{Busy: true, Errors: 2, RetryCount: 3}, 2, false},
		{"nobody there during a call", health{Gone: true, Busy: true, RetryCount: 3}, 1, true},
		{"during the first call", health{Busy: true, RetryCount: 1}, 0, false},
	}
	for _, tt := range tests {
		if errs, replace := check(tt.h); errs != tt.errs || replace != tt.replace {
			t.Errorf("%s: %d %v, want %d %v", tt.name, errs, replace, tt.errs, tt.replace)
		}
	}
}

// TestAttemptsOfADay lets servers fail in every rhythm, among them that of one that
// stays up just long enough to look cured, and counts in every 24 hours.
func TestAttemptsOfADay(t *testing.T) {
	const day = 24 * time.Hour
	codes := []shannon.Code{shannon.CodeExited, shannon.CodeUnreachable, shannon.CodeHandshakeTimeout, shannon.CodeQuota}
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		up := []time.Duration{0, 0, time.Second, stable, stable, 10 * time.Minute}[rnd.IntN(6)]
		cured := rnd.Float64() // how often an attempt leads to a connection that looks stable
		f := failure{RetryDelay: time.Duration(rnd.Int64N(int64(2 * time.Second)))}
		start := time.Unix(0, 0)
		now := start
		var c credit
		var attempts []time.Time
		for now.Sub(start) < 3*day {
			f.Attempt++
			f.Code, f.Credit, f.Jitter = codes[rnd.IntN(len(codes))], c.wait(now), rnd.Float64()
			now = now.Add(decide(f).Delay)
			c.take(now)
			attempts = append(attempts, now)
			if rnd.Float64() < cured {
				now = now.Add(up)
				if up >= stable {
					f.Attempt = 0
				}
			}
		}
		from := 0
		for i, at := range attempts {
			for at.Sub(attempts[from]) > day {
				from++
			}
			if n := i - from + 1; n > 300 {
				t.Fatalf("seed %d: %d attempts in the 24 hours before %s", seed, n, at.Sub(start))
			}
		}
		if len(attempts) < 10 {
			t.Errorf("seed %d: only %d attempts in three days", seed, len(attempts))
		}
	}
}

// TestCreditIsNoHindrance makes sure that a server that breaks now and then is
// taken up at once.
func TestCreditIsNoHindrance(t *testing.T) {
	var c credit
	now := time.Unix(0, 0)
	for i := range 1000 {
		if w := c.wait(now); w != 0 {
			t.Fatalf("attempt %d waits %s", i, w)
		}
		c.take(now)
		now = now.Add(slowDelay)
	}
}

type vendor struct{ after time.Duration }

func (v vendor) Error() string             { return "later" }
func (v vendor) RetryAfter() time.Duration { return v.after }

func TestRetryAfter(t *testing.T) {
	in := fmt.Errorf("connect: %w", shannon.Errorf(shannon.CodeQuota, "", "no more: %w", vendor{time.Hour}))
	if got := retryAfter(in); got != time.Hour {
		t.Errorf("got %s", got)
	}
	if got := retryAfter(errors.New("no")); got != 0 {
		t.Errorf("got %s", got)
	}
}
