package shannon_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// This file holds the architecture as data, and tests that the tree keeps to it.
// To change the architecture, change a line here and say why in the commit.

const module = "github.com/shannon-mcp/shannon"

// anything, as an allowed import, allows every package of the module.
const anything = "*"

// layout names every package and what it may import of this module, beside the
// root and internal/wire, which all may. Imports point down only.
var layout = map[string][]string{
	"":                     {},
	"manager":              {anything}, // the composition root
	"remote":               {},
	"cmd/shannon":          {"internal/cli"},
	"examples/embed":       {"manager"},
	"internal/api":         {},
	"internal/auth":        {},
	"internal/bridge":      {},
	"internal/builtin":     {},
	"internal/catalog":     {},
	"internal/cli":         {"remote", "manager", "internal/schema"},
	"internal/clients":     {},
	"internal/credentials": {},
	"internal/discover":    {"internal/clients"},
	"internal/edge":        {},
	"internal/explain":     {},
	"internal/gateway":     {"internal/catalog"},
	"internal/process":     {},
	"internal/schema":      {},
	"internal/store":       {},
	"internal/supervisor":  {},
	"internal/telemetry":   {},
	"internal/transport":   {"internal/process"},
	"internal/wire":        {},

	// No part of the product: see testOnly.
	"internal/bench":           {anything},
	"internal/contract":        {"internal/mcptest"},
	"internal/interop":         {},
	"internal/mcptest":         {},
	"internal/mcptest/fakemcp": {"internal/mcptest"},
}

// testOnly may be imported by tests, and by one another where layout says so.
var testOnly = []string{"internal/mcptest", "internal/contract"}

// testImports is what tests of a package may import besides.
var testImports = map[string][]string{
	"internal/contract": {"internal/api", "remote"},
	"remote":            {anything}, // the contract test runs on a real manager
	"cmd/shannon":       {anything}, // end to end
	"internal/api":      {"remote"}, // the API is tested through its client
	"internal/edge":     {"internal/gateway", "internal/catalog"},
}

// detached lists the files outside of main and tests that may start a context
// of their own, with the reason.
var detached = map[string]string{}

const (
	maxFileLines     = 800
	maxTestFileLines = 1000
	maxFuncLines     = 80
	maxPackageLines  = 2500 * 120 / 100
	maxDepth         = 6
	maxRootNames     = 60 // types, functions and variables; constants and methods belong to a type
	minDocLines      = 3
)

// nondescript names say nothing about what a package is.
var nondescript = []string{
	"base", "common", "core", "helper", "helpers", "lib", "misc", "model", "models",
	"pkg", "shared", "tools", "types", "util", "utils",
}

// file is a Go file of the module; dir and path have slashes and begin at the root.
type file struct {
	path, dir string
	test      bool
	lines     int
	ast       *ast.File
}

var fset = token.NewFileSet()

// skipDir tells whether a directory holds none of the module's own files.
func skipDir(name string) bool {
	return slices.Contains([]string{".git", ".cache", ".shannon", "bin", "dist", "node_modules"}, name)
}

// walk calls visit with every file of the tree.
func walk(t *testing.T, visit func(name string, content []byte)) {
	t.Helper()
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && skipDir(d.Name()) {
			return fs.SkipDir
		}
		if !d.Type().IsRegular() {
			return nil
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		visit(filepath.ToSlash(name), content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// goFiles parses every Go file of the module. Those in testdata, and those of
// the module in tools, are no part of it.
func goFiles(t *testing.T) []file {
	t.Helper()
	var files []file
	walk(t, func(name string, content []byte) {
		if path.Ext(name) != ".go" || strings.Contains(name, "testdata/") || strings.HasPrefix(name, "tools/") {
			return
		}
		parsed, err := parser.ParseFile(fset, name, content, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Errorf("parse: %v", err)
			return
		}
		dir := path.Dir(name)
		if dir == "." {
			dir = ""
		}
		files = append(files, file{
			path: name, dir: dir, test: strings.HasSuffix(name, "_test.go"),
			lines: bytes.Count(content, []byte("\n")), ast: parsed,
		})
	})
	return files
}

// imports returns what f imports of this module, by directory.
func (f *file) imports() []string {
	var dirs []string
	for _, spec := range f.ast.Imports {
		name, _ := strconv.Unquote(spec.Path.Value) // the parser has checked it
		if name == module {
			dirs = append(dirs, "")
		} else if dir, ok := strings.CutPrefix(name, module+"/"); ok {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

func mayImport(f *file, dir string) bool {
	allowed := slices.Concat([]string{"", "internal/wire", f.dir}, layout[f.dir])
	if f.dir == "" {
		allowed = []string{""}
	}
	if f.test {
		allowed = slices.Concat(allowed, testImports[f.dir], testOnly)
	}
	if slices.Contains(allowed, dir) {
		return true
	}
	return slices.Contains(allowed, anything) && (f.dir == "internal/bench" || !slices.Contains(testOnly, dir))
}

func TestImports(t *testing.T) {
	for _, f := range goFiles(t) {
		for _, spec := range f.ast.Imports {
			if spec.Path.Value == `"C"` {
				t.Errorf("%s: imports C: the binary is static, built with CGO_ENABLED=0", f.path)
			}
		}
		if _, known := layout[f.dir]; !known {
			t.Errorf("%s: package %q is not in the layout of arch_test.go: add it there with what it may import", f.path, f.dir)
			continue
		}
		for _, dir := range f.imports() {
			if !mayImport(&f, dir) {
				t.Errorf("%s: %q may not import %q: declare a small interface of your own and let manager connect the two, "+
					"or change the layout in arch_test.go", f.path, f.dir, dir)
			}
		}
	}
}

func TestImportDepth(t *testing.T) {
	edges := map[string]map[string]bool{}
	for _, f := range goFiles(t) {
		for _, dir := range f.imports() {
			if !f.test && dir != f.dir {
				if edges[f.dir] == nil {
					edges[f.dir] = map[string]bool{}
				}
				edges[f.dir][dir] = true
			}
		}
	}
	// chain returns the longest chain of imports that begins at dir. The
	// compiler refuses cycles, so it ends; the bound is for a tree in between.
	var chain func(dir string, bound int) []string
	chain = func(dir string, bound int) []string {
		var longest []string
		if bound == 0 {
			return nil
		}
		for next := range edges[dir] {
			if c := chain(next, bound-1); len(c) > len(longest) {
				longest = c
			}
		}
		return append([]string{"/" + dir}, longest...)
	}
	for dir := range edges {
		if c := chain(dir, 2*maxDepth); len(c)-1 > maxDepth {
			t.Errorf("imports are %d deep, at most %d are allowed: %s", len(c)-1, maxDepth, strings.Join(c, " → "))
		}
	}
}

func TestPackages(t *testing.T) {
	docs, lines, names := map[string]int{}, map[string]int{}, map[string]string{}
	for _, f := range goFiles(t) {
		if f.test {
			continue
		}
		lines[f.dir] += f.lines
		names[f.dir] = f.ast.Name.Name
		if f.ast.Doc != nil {
			docs[f.dir] = max(docs[f.dir], strings.Count(f.ast.Doc.Text(), "\n"))
		}
	}
	for dir, name := range names {
		if docs[dir] < minDocLines {
			t.Errorf("package %q: its doc comment has %d lines, at least %d are wanted: what it does, what it must not know, "+
				"its concurrency rule", dir, docs[dir], minDocLines)
		}
		if lines[dir] > maxPackageLines && !slices.Contains(testOnly, dir) {
			t.Errorf("package %q: %d lines without tests, at most %d are allowed: find the second noun in it and split", dir, lines[dir], maxPackageLines)
		}
		for _, part := range slices.Compact(append(strings.Split(dir, "/"), name)) {
			if slices.Contains(nondescript, part) {
				t.Errorf("package %q: the name %q says nothing: name it after the thing it holds", dir, part)
			}
		}
	}
}

func TestBudgets(t *testing.T) {
	for _, f := range goFiles(t) {
		limit := maxFileLines
		if f.test {
			limit = maxTestFileLines
		}
		if f.lines > limit {
			t.Errorf("%s: %d lines, at most %d are allowed: split it by the things in it", f.path, f.lines, limit)
		}
		for _, decl := range f.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || f.test {
				continue
			}
			n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1
			if n > maxFuncLines {
				t.Errorf("%s: function %s has %d lines, at most %d are allowed", fset.Position(fn.Pos()), fn.Name.Name, n, maxFuncLines)
			}
		}
	}
}

func TestCalls(t *testing.T) {
	used := map[string]bool{}
	for _, f := range goFiles(t) {
		if f.test {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			at := fset.Position(n.Pos())
			switch pkg.Name + "." + sel.Sel.Name {
			case "time.Sleep":
				t.Errorf("%s: time.Sleep: wait on a channel, a timer or a context", at)
			case "context.Background", "context.TODO":
				if _, allowed := detached[f.path]; allowed {
					used[f.path] = true
				} else if f.ast.Name.Name != "main" {
					t.Errorf("%s: a context of its own: take the caller's; to outlive it use context.WithoutCancel and say why; "+
						"or add the file to detached in arch_test.go with the reason", at)
				}
			}
			return true
		})
	}
	for name := range detached {
		if !used[name] {
			t.Errorf("arch_test.go: detached lists %s, which starts no context: remove the line", name)
		}
	}
}

// rootNames returns the exported types, functions and variables of the root
// package, and the values of its constants of type Code.
func rootNames(t *testing.T) (names, codes []string) {
	t.Helper()
	for _, f := range goFiles(t) {
		if f.dir != "" || f.test {
			continue
		}
		for _, decl := range f.ast.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.IsExported() {
					names = append(names, d.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					n, c := specNames(d.Tok, spec)
					names, codes = append(names, n...), append(codes, c...)
				}
			}
		}
	}
	return names, codes
}

func specNames(tok token.Token, spec ast.Spec) (names, codes []string) {
	switch s := spec.(type) {
	case *ast.TypeSpec:
		if s.Name.IsExported() {
			names = append(names, s.Name.Name)
		}
	case *ast.ValueSpec:
		for i, name := range s.Names {
			if tok == token.VAR && name.IsExported() {
				names = append(names, name.Name)
			}
			if kind, ok := s.Type.(*ast.Ident); ok && tok == token.CONST && kind.Name == "Code" && i < len(s.Values) {
				code, _ := strconv.Unquote(s.Values[i].(*ast.BasicLit).Value)
				codes = append(codes, code)
			}
		}
	}
	return names, codes
}

func TestVocabulary(t *testing.T) {
	names, _ := rootNames(t)
	if len(names) > maxRootNames {
		slices.Sort(names)
		t.Errorf("the root package exports %d names, at most %d are allowed: a name enters it only if the signature of a public method needs it: %s",
			len(names), maxRootNames, strings.Join(names, " "))
	}
}

func TestProblemPages(t *testing.T) {
	_, codes := rootNames(t)
	if len(codes) == 0 {
		t.Fatal("no constant of type Code was found in the root package")
	}
	pages := map[string]bool{}
	names, err := filepath.Glob("docs/problems/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		pages[strings.TrimSuffix(filepath.Base(name), ".md")] = true
	}
	for _, code := range codes {
		if !pages[code] {
			t.Errorf("docs/problems/%s.md is missing: what the problem means, why it happens, what to do", code)
		}
		delete(pages, code)
	}
	for _, page := range slices.Sorted(maps.Keys(pages)) {
		t.Errorf("docs/problems/%s.md describes no code of problem.go: remove it", page)
	}
}

func TestComments(t *testing.T) {
	unfinished := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)
	for _, f := range goFiles(t) {
		for _, group := range f.ast.Comments {
			for _, c := range group.List {
				if unfinished.MatchString(c.Text) {
					t.Errorf("%s: unfinished: do it now, or write it down in docs/rough-edges.md", fset.Position(c.Pos()))
				}
			}
		}
	}
}

// TestPaths looks in every file for a path that exists on one machine only.
func TestPaths(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	here = filepath.ToSlash(here) + "/"
	deep := strings.Count(here, "/") > 2 // a path such as /src/ may stand in a text for other reasons
	local := regexp.MustCompile(`(^|[^\w./-])/work` + `/|\.\./shared` + `/`)
	walk(t, func(name string, content []byte) {
		if bytes.IndexByte(content, 0) >= 0 || path.Base(name) == "go.sum" {
			return
		}
		number := 0
		for line := range bytes.Lines(content) {
			number++
			if local.Match(line) || (deep && bytes.Contains(line, []byte(here))) {
				t.Errorf("%s:%d: a path of one machine: %s", name, number, bytes.TrimSpace(line))
			}
		}
	})
}

func TestLicense(t *testing.T) {
	text, err := os.ReadFile("LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Apache License", "Version 2.0, January 2004", "The Shannon Authors"} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("LICENSE has no %q", want)
		}
	}
}
