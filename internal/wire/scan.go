package wire

import (
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxDepth is how deep a message may nest.
const MaxDepth = 512

// Span is a range of offsets into a message; the zero Span means absent.
type Span struct{ Start, End int }

// Field names a member that Shannon routes on or rewrites.
type Field uint8

// The fields. Those from FieldName to FieldMeta are members of params, those
// from FieldMetaToken on are members of params._meta.
const (
	FieldJSONRPC Field = iota
	FieldID
	FieldMethod
	FieldParams
	FieldResult
	FieldError

	FieldName
	FieldURI
	FieldCursor
	FieldRequestID
	FieldProgressToken
	FieldTaskID
	FieldMeta

	FieldMetaToken
	FieldMetaVersion
	FieldMetaClientInfo
	FieldMetaClientCaps
	FieldMetaLogLevel
	FieldMetaSubscription

	FieldResultType
	FieldTTL
	FieldCacheScope

	numFields
)

// The keys of params._meta that the protocol reserves (2026-07-28, basic, _meta).
const (
	MetaVersion      = "io.modelcontextprotocol/protocolVersion"
	MetaClientInfo   = "io.modelcontextprotocol/clientInfo"
	MetaClientCaps   = "io.modelcontextprotocol/clientCapabilities"
	MetaLogLevel     = "io.modelcontextprotocol/logLevel"
	MetaSubscription = "io.modelcontextprotocol/subscriptionId"
	MetaServerInfo   = "io.modelcontextprotocol/serverInfo"
	MetaToken        = "progressToken"
)

// keyTable maps the keys of one kind of object to fields.
type keyTable []struct {
	key   string
	field Field
}

var (
	topKeys = keyTable{
		{"jsonrpc", FieldJSONRPC},
		{"id", FieldID},
		{"method", FieldMethod},
		{"params", FieldParams},
		{"result", FieldResult},
		{"error", FieldError},
	}
	paramKeys = keyTable{
		{"name", FieldName},
		{"uri", FieldURI},
		{"cursor", FieldCursor},
		{"requestId", FieldRequestID},
		{"progressToken", FieldProgressToken},
		{"taskId", FieldTaskID},
		{"_meta", FieldMeta},
	}
	metaKeys = keyTable{
		{MetaToken, FieldMetaToken},
		{MetaVersion, FieldMetaVersion},
		{MetaClientInfo, FieldMetaClientInfo},
		{MetaClientCaps, FieldMetaClientCaps},
		{MetaLogLevel, FieldMetaLogLevel},
		{MetaSubscription, FieldMetaSubscription},
	}
	resultKeys = keyTable{{"resultType", FieldResultType}, {"ttlMs", FieldTTL}, {"cacheScope", FieldCacheScope}}
)

// Kind is what a message is.
type Kind uint8

// The kinds of messages.
const (
	KindInvalid Kind = iota
	KindRequest
	KindNotification
	KindResult
	KindError
)

// Envelope is a scanned message: its bytes and where its routed members lie.
type Envelope struct {
	Raw    []byte
	Kind   Kind
	Method string // decoded; "" for replies
	spans  [numFields]Span
}

// Has tells whether the message has the member.
func (e *Envelope) Has(f Field) bool { return e.spans[f].End > 0 }

// At returns where the member's value lies in Raw.
func (e *Envelope) At(f Field) Span { return e.spans[f] }

// Get returns the member's value as it stands in the message, nil when absent.
func (e *Envelope) Get(f Field) []byte {
	if s := e.spans[f]; s.End > 0 {
		return e.Raw[s.Start:s.End:s.End]
	}
	return nil
}

// Text returns the member's value when it is a string, decoded.
func (e *Envelope) Text(f Field) (string, bool) { return Unquote(e.Get(f)) }

// Scan checks a message and finds its routed members. The error is always an
// [*RPCError]; the Envelope beside it still has the id, where one could be read,
// so that the error can be answered. Scan keeps raw.
func Scan(raw []byte) (Envelope, error) {
	e := Envelope{Raw: raw}
	if !utf8.Valid(raw) {
		return e, parseError(0, "the message is not valid UTF-8")
	}
	s := scanner{b: raw, e: &e}
	err := s.message()
	badID := e.checkID(&s)
	switch {
	case err != nil:
		return e, err
	case badID != nil:
		return e, badID
	}
	if err = e.classify(&s); err != nil {
		e.Kind = KindInvalid
	}
	return e, err
}

// checkID forgets an id that no answer could carry.
func (e *Envelope) checkID(s *scanner) error {
	at := e.spans[FieldID]
	id := e.Get(FieldID)
	twofold := s.ambiguous("id", FieldID)
	// At the end of the text it is cut off: a message ends with a bracket.
	if twofold == nil && stringOrNumber(id) && at.End < len(e.Raw) {
		return nil
	}
	e.spans[FieldID] = Span{}
	switch {
	case twofold != nil:
		return twofold
	case id == nil || string(id) == "null" && e.Has(FieldError) && !e.Has(FieldMethod):
		return nil
	}
	return invalid("the id must be a string or a number")
}

// stringOrNumber tells whether a value has a type that ids and progress tokens have.
func stringOrNumber(value []byte) bool {
	return len(value) > 0 && (value[0] == '"' || value[0] == '-' || value[0] >= '0' && value[0] <= '9')
}

// classify decides what the message is and refuses what could be read in two ways.
func (e *Envelope) classify(s *scanner) error {
	for _, k := range topKeys {
		if err := s.ambiguous(k.key, k.field); err != nil {
			return err
		}
	}
	if string(e.Get(FieldJSONRPC)) != `"2.0"` {
		return invalid(`member "jsonrpc" must be "2.0"`)
	}
	if !e.Has(FieldMethod) {
		return e.classifyReply(s)
	}
	method, ok := e.Text(FieldMethod)
	if !ok || method == "" || strings.IndexByte(method, 0) >= 0 { // NUL: some readers stop there
		return invalid("the method must be a string")
	}
	if e.Has(FieldResult) || e.Has(FieldError) {
		return invalid("a message is either a request or a response")
	}
	if p := e.Get(FieldParams); p != nil && p[0] != '{' {
		return invalid("params must be an object")
	}
	e.Method = method
	e.Kind = KindNotification
	if e.Has(FieldID) {
		e.Kind = KindRequest
	}
	return e.checkParams(s)
}

func (e *Envelope) classifyReply(s *scanner) error {
	switch {
	case e.Has(FieldResult) && e.Has(FieldError):
		return invalid("a response has either a result or an error")
	case e.Has(FieldResult):
		if !e.Has(FieldID) {
			return invalid("a response needs an id")
		}
		e.Kind = KindResult
		return s.ambiguous("resultType", FieldResultType)
	case e.Has(FieldError):
		if e.Get(FieldError)[0] != '{' {
			return invalid("an error must be an object")
		}
		e.Kind = KindError
		return nil
	}
	return invalid("the message has no method, result or error")
}

// checkParams refuses what is ambiguous in those members of params that route
// this method. The params of other methods are none of our business.
func (e *Envelope) checkParams(s *scanner) error {
	if err := s.ambiguous("_meta", FieldMeta); err != nil {
		return err
	}
	for _, k := range metaKeys {
		if err := s.ambiguous(k.key, k.field); err != nil {
			return err
		}
	}
	if f := RoutingField(e.Method); f != 0 {
		for _, k := range paramKeys {
			if k.field == f {
				return s.ambiguous(k.key, f)
			}
		}
	}
	return nil
}

// RoutingField returns the member of params that says what a method is about,
// zero when the method has none.
func RoutingField(method string) Field {
	switch method {
	case "tools/call", "prompts/get":
		return FieldName
	case "resources/read", "resources/subscribe", "resources/unsubscribe":
		return FieldURI
	case "tools/list", "prompts/list", "resources/list", "resources/templates/list", "tasks/list":
		return FieldCursor
	case "notifications/cancelled":
		return FieldRequestID
	case "notifications/progress":
		return FieldProgressToken
	}
	if strings.HasPrefix(method, "tasks/") {
		return FieldTaskID
	}
	return 0
}

// scanner walks a text that is known to be UTF-8.
type scanner struct {
	b         []byte
	i         int
	depth     int
	e         *Envelope
	repeated  [numFields]bool
	disguised [numFields]bool
}

func (s *scanner) ambiguous(key string, f Field) error {
	if s.repeated[f] {
		return invalid("member %q appears twice", key)
	}
	if s.disguised[f] {
		return invalid("member %q is written in a way that could be read differently", key)
	}
	return nil
}

func (s *scanner) fail(what string) error { return parseError(s.i, what) }

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

func (s *scanner) message() error {
	s.space()
	if s.i >= len(s.b) {
		return s.fail("the message is empty")
	}
	if s.b[s.i] != '{' {
		// Tell broken JSON from JSON that is no message.
		if err := s.value(); err != nil {
			return err
		}
		if err := s.end(); err != nil {
			return err
		}
		return invalid("the message is not an object")
	}
	if err := s.object(topKeys); err != nil {
		return err
	}
	return s.end()
}

// end makes sure that only space is left.
func (s *scanner) end() error {
	if s.space(); s.i != len(s.b) {
		return s.fail("there is data behind the message")
	}
	return nil
}

// inside returns the table for the object that is the value of field f.
func inside(f Field) keyTable {
	switch f {
	case FieldParams:
		return paramKeys
	case FieldMeta:
		return metaKeys
	case FieldResult:
		return resultKeys
	default:
		return nil
	}
}

// object scans an object whose keys are noted by the table; nil notes nothing.
func (s *scanner) object(table keyTable) error {
	if s.depth++; s.depth > MaxDepth {
		return s.fail("the message nests too deep")
	}
	s.i++ // {
	s.space()
	if s.i < len(s.b) && s.b[s.i] == '}' {
		s.i++
		s.depth--
		return nil
	}
	for {
		s.space()
		if s.i >= len(s.b) || s.b[s.i] != '"' {
			return s.fail("expected a key")
		}
		start := s.i + 1
		escaped, err := s.str()
		if err != nil {
			return err
		}
		key := s.b[start : s.i-1]
		s.space()
		if s.i >= len(s.b) || s.b[s.i] != ':' {
			return s.fail("expected ':'")
		}
		s.i++
		s.space()
		if err := s.member(table, key, escaped); err != nil {
			return err
		}
		more, err := s.next('}')
		if err != nil || !more {
			return err
		}
	}
}

// member scans the value of one key and notes it when the table has the key.
func (s *scanner) member(table keyTable, key []byte, escaped bool) error {
	field, exact, found := table.lookup(key, escaped)
	if !found {
		return s.value()
	}
	if !exact {
		s.disguised[field] = true
		return s.value()
	}
	if s.e.spans[field].End > 0 {
		s.repeated[field] = true
	}
	start := s.i
	var err error
	if t := inside(field); t != nil && s.i < len(s.b) && s.b[s.i] == '{' {
		err = s.object(t)
	} else {
		err = s.value()
	}
	if err == nil {
		s.e.spans[field] = Span{start, s.i}
	}
	return err
}

// lookup finds the field of a key: exactly, or as a reader could take it that
// folds case, decodes escapes late or stops at a NUL.
func (t keyTable) lookup(key []byte, escaped bool) (f Field, exact, found bool) {
	if len(t) == 0 {
		return 0, false, false
	}
	if escaped || !ascii(key) {
		f, found = t.disguised(key)
		return f, false, found
	}
	for i := range t {
		if string(key) == t[i].key {
			return t[i].field, true, true
		}
	}
	for i := range t {
		if len(key) == len(t[i].key) && strings.EqualFold(string(key), t[i].key) {
			return t[i].field, false, true
		}
	}
	return 0, false, false
}

func ascii(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// turkish undoes what upper and lower case do to an i in some places. The other
// letters that fold into ASCII are known to [strings.EqualFold].
var turkish = strings.NewReplacer("\u0130", "i", "\u0131", "i")

// disguised finds the field of a key with escapes or letters outside ASCII.
func (t keyTable) disguised(key []byte) (f Field, found bool) {
	name, _ := Unquote(slices.Concat([]byte{'"'}, key, []byte{'"'}))
	name, _, _ = strings.Cut(turkish.Replace(name), "\x00")
	for i := range t {
		if strings.EqualFold(name, t[i].key) {
			return t[i].field, true
		}
	}
	return 0, false
}

// next moves behind a comma (true) or behind the closing bracket (false).
func (s *scanner) next(closing byte) (bool, error) {
	s.space()
	if s.i < len(s.b) {
		switch s.b[s.i] {
		case ',':
			s.i++
			return true, nil
		case closing:
			s.i++
			s.depth--
			return false, nil
		}
	}
	return false, s.fail("expected ',' or '" + string(closing) + "'")
}

func (s *scanner) array() error {
	if s.depth++; s.depth > MaxDepth {
		return s.fail("the message nests too deep")
	}
	s.i++ // [
	s.space()
	if s.i < len(s.b) && s.b[s.i] == ']' {
		s.i++
		s.depth--
		return nil
	}
	for {
		s.space()
		if err := s.value(); err != nil {
			return err
		}
		more, err := s.next(']')
		if err != nil || !more {
			return err
		}
	}
}

func (s *scanner) value() error {
	if s.i >= len(s.b) {
		return s.fail("unexpected end")
	}
	switch c := s.b[s.i]; c {
	case '{':
		return s.object(nil)
	case '[':
		return s.array()
	case '"':
		_, err := s.str()
		return err
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	default:
		return s.number()
	}
}

func (s *scanner) literal(word string) error {
	if string(s.b[s.i:min(len(s.b), s.i+len(word))]) != word {
		return s.fail("unexpected character")
	}
	s.i += len(word)
	return nil
}

func (s *scanner) digits() bool {
	start := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i > start
}

func (s *scanner) number() error {
	if s.b[s.i] == '-' {
		s.i++
	}
	zero := s.i < len(s.b) && s.b[s.i] == '0'
	first := s.i
	if !s.digits() {
		return s.fail("unexpected character")
	}
	if zero && s.i-first > 1 {
		return s.fail("a number must not start with 0")
	}
	if s.i < len(s.b) && s.b[s.i] == '.' {
		s.i++
		if !s.digits() {
			return s.fail("a number must not end with '.'")
		}
	}
	if s.i < len(s.b) && s.b[s.i]|0x20 == 'e' {
		s.i++
		if s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-') {
			s.i++
		}
		if !s.digits() {
			return s.fail("a number's exponent has no digits")
		}
	}
	return nil
}

// str scans a string at its opening quote and tells whether it holds an escape.
func (s *scanner) str() (escaped bool, err error) {
	s.i++
	for {
		s.i += plain(s.b[s.i:])
		if s.i >= len(s.b) {
			return escaped, s.fail("a string has no end")
		}
		switch s.b[s.i] {
		case '"':
			s.i++
			return escaped, nil
		case '\\':
			escaped = true
			if err := s.escape(); err != nil {
				return escaped, err
			}
		default:
			return escaped, s.fail("a control character in a string")
		}
	}
}

func (s *scanner) escape() error {
	if s.i+1 >= len(s.b) {
		return s.fail("a string has no end")
	}
	switch s.b[s.i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.i += 2
		return nil
	case 'u':
		if s.i+6 > len(s.b) {
			return s.fail("a string has no end")
		}
		for _, c := range s.b[s.i+2 : s.i+6] {
			if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
				return s.fail("an escape that is none")
			}
		}
		s.i += 6
		return nil
	}
	return s.fail("an escape that is none")
}

// plain returns how many bytes of b come before a quote, a backslash or a
// control character. It looks at eight bytes at a time.
func plain(b []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	n := 0
	for len(b)-n >= 8 {
		w := binary.LittleEndian.Uint64(b[n:])
		quote := w ^ (ones * '"')
		slash := w ^ (ones * '\\')
		// A byte under 0x20, or zero after the xor, borrows into its high bit.
		hit := ((w - ones*0x20) &^ w) | ((quote - ones) &^ quote) | ((slash - ones) &^ slash)
		if hit&highs != 0 {
			break
		}
		n += 8
	}
	for n < len(b) && b[n] >= 0x20 && b[n] != '"' && b[n] != '\\' {
		n++
	}
	return n
}

// Unquote decodes a JSON string; false when raw is none.
func Unquote(raw []byte) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' || raw[len(raw)-1] != '"' {
		return "", false
	}
	if inner := raw[1 : len(raw)-1]; plain(inner) == len(inner) {
		return string(inner), true
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return "", false
	}
	return text, true
}
