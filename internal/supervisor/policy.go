package supervisor

import (
	"errors"
	"time"

	"github.com/shannon-mcp/shannon"
)

// The numbers of the restart and health policies.
const (
	fastCap      = 60 * time.Second // longest delay while the trouble may pass
	slowDelay    = 5 * time.Minute  // delay of a server that stays down
	fastAttempts = 10               // attempts before slowDelay
	burst        = 11               // attempts that need not be spread over the day
	crashLoop    = 5                // exits in a row that make a crash loop
	stable       = 30 * time.Second // a connection this old proves that the trouble has passed
	callEvery    = 10 * time.Second // how often a call may try to connect during backoff
	pingLimit    = 5 * time.Second
	healthSlack  = 5 * time.Second
	relistEvery  = time.Second // how often a server's list is read at most
)

// failure is what is known when an attempt to connect, or a connection, failed.
type failure struct {
	Attempt    int           // failures in a row, this one included
	Code       shannon.Code  // why
	RetryDelay time.Duration // the server's own
	RetryAfter time.Duration // what the vendor asked for, zero if nothing
	Credit     time.Duration // how long until the day's attempts allow another one
	Jitter     float64       // a random number in [0, 1)
}

// decision is what to do about a failure.
type decision struct {
	Park  bool // do not try again by ourselves
	Delay time.Duration
	Code  shannon.Code // what to call the problem
}

// decide says when to try again: ten times at growing delays, then once in five
// minutes, and never sooner than the day's credit and the vendor allow.
func decide(f failure) decision {
	d := decision{Code: f.Code}
	if f.Code == shannon.CodeExited && f.Attempt >= crashLoop {
		d.Code = shannon.CodeCrashLoop
	}
	switch f.Code {
	case shannon.CodeNeedsAuth, shannon.CodeBadTransport, shannon.CodeInvalidServer, shannon.CodeUnsupported:
		d.Park = true // only a change of the definition or a person can help
		return d
	}
	base := min(max(f.RetryDelay, 100*time.Millisecond), fastCap)
	if f.Attempt > fastAttempts {
		base = slowDelay
	} else {
		for range f.Attempt - 1 {
			base = min(2*base, fastCap)
		}
	}
	d.Delay = max(time.Duration(float64(base)*(1+0.2*f.Jitter)), f.RetryAfter, f.Credit)
	return d
}

// credit bounds the attempts of a day, also of a server that comes up and fails
// again and again: some at once, and one more in each slowDelay, which makes at most
// 300 in any 24 hours. The zero credit is full.
type credit struct {
	full time.Time // when all of it is there again
}

// wait tells how long it is until there is credit for an attempt.
func (c *credit) wait(now time.Time) time.Duration {
	return max(0, max(0, c.full.Sub(now))-(burst-1)*slowDelay)
}

// take spends the credit for an attempt.
func (c *credit) take(now time.Time) {
	if c.full.Before(now) {
		c.full = now
	}
	c.full = c.full.Add(slowDelay)
}

// health is what is known when a health check failed.
type health struct {
	Gone       bool // nobody listens there any more
	Busy       bool // a call is under way: single-threaded servers do not answer then
	Errors     int  // failed checks in a row before this one
	RetryCount int
}

// check returns the new number of failed checks and whether the peer is to be
// replaced.
func check(h health) (errs int, replace bool) {
	if h.Busy && !h.Gone {
		return h.Errors, false
	}
	errs = h.Errors + 1
	return errs, h.Gone || errs >= max(1, h.RetryCount)
}

// retryAfter finds the delay that a vendor asked for in an error's chain.
func retryAfter(err error) time.Duration {
	if r, ok := errors.AsType[interface {
		error
		RetryAfter() time.Duration
	}](err); ok {
		return r.RetryAfter()
	}
	return 0
}
