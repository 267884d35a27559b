package manager

import (
	"log/slog"
	"sync"
)

// queue does work in order, in a goroutine of its own, so that who gives it work
// waits for no disk. What was given before close is done.
type queue struct {
	log  *slog.Logger
	mu   sync.Mutex
	work []func() error
	shut bool
	wake chan struct{}
	wg   sync.WaitGroup
}

func newQueue(log *slog.Logger) *queue {
	q := &queue{log: log, wake: make(chan struct{}, 1)}
	q.wg.Go(q.run)
	return q
}

// do queues work, whose error is logged; false means that the queue is closed.
func (q *queue) do(work func() error) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.shut {
		return false
	}
	q.work = append(q.work, work)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

func (q *queue) run() {
	for range q.wake {
		for {
			q.mu.Lock()
			work := q.work
			q.work = nil
			q.mu.Unlock()
			if len(work) == 0 {
				break
			}
			for _, f := range work {
				if err := f(); err != nil {
					q.log.Error("the ledger could not be written", "err", err)
				}
			}
		}
	}
}

// flush waits until everything given so far is done.
func (q *queue) flush() {
	done := make(chan struct{})
	if q.do(func() error { close(done); return nil }) {
		<-done
	}
}

func (q *queue) close() {
	q.flush()
	q.mu.Lock()
	q.shut = true
	close(q.wake)
	q.mu.Unlock()
	q.wg.Wait()
}
