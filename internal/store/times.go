package store

import (
	"database/sql"
	"strings"
	"time"
)

// Times are UTC text without a zone and with six digits of fraction, as the
// Python manager wrote them.
const timeForm = "2006-01-02T15:04:05.000000"

func formatTime(t time.Time) string { return t.UTC().Format(timeForm) }

// formatTimePtr gives NULL for nil.
func formatTimePtr(t *time.Time) any {
	if t == nil {
		return nil
	}
	return formatTime(*t)
}

// parseTime reads a stored time. The fraction may be missing or have any length,
// a space may stand for the T, and a zone may follow.
func parseTime(text string) (time.Time, bool) {
	text = strings.Replace(strings.TrimSpace(text), " ", "T", 1)
	for _, form := range []string{"2006-01-02T15:04:05", time.RFC3339} { // both take a fraction
		if t, err := time.Parse(form, text); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

// parseTimePtr gives nil for NULL and for what is no time.
func parseTimePtr(text sql.NullString) *time.Time {
	if t, ok := parseTime(text.String); ok && text.Valid {
		return &t
	}
	return nil
}
