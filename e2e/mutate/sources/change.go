// Package sources changes Go sources so that a test binary can make one of many mistakes, chosen by the environment.
package sources

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// Mutant is one change of the sources that a run can make.
type Mutant struct {
	Number int
	Place  string // file:line:column
	Kind   string // comparison, branch or lock
	Text   string // the source at that place
}

// String names the mutant, as long as the file is the same.
func (m Mutant) String() string { return m.Place + "\t" + m.Kind + "\t" + m.Text }

// Plant returns the changed sources of a package, by their paths, in which each comparison can be inverted, and each branch and each lock
// removed; pkg is a folder of the repository at root. Mutants are numbered from next on. Tests and generated code are left alone.
func Plant(root, pkg string, next int) (changed map[string]string, mutants []Mutant, err error) {
	p, err := build.ImportDir(filepath.Join(root, pkg), 0)
	if err != nil {
		return nil, nil, err
	}
	changed = map[string]string{}
	for _, name := range p.GoFiles {
		if strings.HasSuffix(name, ".pb.go") {
			continue
		}
		path := filepath.Join(root, pkg, name)
		source, found, err := instrument(path, filepath.Join(pkg, name), next)
		if err != nil {
			return nil, nil, err
		}
		next += len(found)
		mutants = append(mutants, found...)
		changed[path] = source
	}
	return changed, mutants, nil
}

// instrument returns the source of a file in which changes are planted. name is the file's in the repository.
func instrument(path, name string, next int) (source string, mutants []Mutant, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", nil, err
	}
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, path, data, parser.ParseComments)
	if err != nil {
		return "", nil, err
	}
	c := &changes{files: files, data: data, name: name, next: next}
	for _, decl := range parsed.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Body != nil {
			c.function(f)
		}
	}
	if len(c.mutants) == 0 {
		return string(data), nil, nil
	}
	clause := files.Position(parsed.Name.End()).Offset
	c.insert(clause, "\nimport \"kraft/e2e/sim/planted\"\n", 0)
	return c.text(), c.mutants, nil
}

// changes are the insertions into a file.
type changes struct {
	files   *token.FileSet
	data    []byte
	name    string
	next    int
	mutants []Mutant
	inserts []insertion
}

type insertion struct {
	at   int
	text string
	rank int // of those at one place, the lower first
}

func (c *changes) insert(at int, text string, rank int) {
	c.inserts = append(c.inserts, insertion{at, text, rank})
}

func (c *changes) offset(p token.Pos) int { return c.files.Position(p).Offset }

func (c *changes) source(n ast.Node) string {
	return string(c.data[c.offset(n.Pos()):c.offset(n.End())])
}

// wrap has a call of planted around an expression. Of nested expressions the outer comes first.
func (c *changes) wrap(n ast.Expr, call, kind string) {
	number := c.mutant(n, kind)
	length := c.offset(n.End()) - c.offset(n.Pos())
	c.insert(c.offset(n.Pos()), fmt.Sprintf("planted.%s(%d, ", call, number), -length)
	c.insert(c.offset(n.End()), ")", length-1<<30)
}

func (c *changes) mutant(n ast.Node, kind string) (number int) {
	number = c.next
	c.next++
	at := c.files.Position(n.Pos())
	text := strings.Join(strings.Fields(c.source(n)), " ")
	c.mutants = append(c.mutants, Mutant{number, fmt.Sprintf("%s:%d:%d", c.name, at.Line, at.Column), kind, text})
	return number
}

func (c *changes) function(f *ast.FuncDecl) {
	locks := map[string][]ast.Stmt{}
	ast.Inspect(f.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GenDecl:
			return n.Tok != token.CONST
		case *ast.IfStmt:
			c.wrap(n.Cond, "Taken", "branch")
		case *ast.SwitchStmt:
			if n.Tag == nil {
				for _, clause := range n.Body.List {
					for _, e := range clause.(*ast.CaseClause).List {
						c.wrap(e, "Taken", "branch")
					}
				}
			}
		case *ast.BinaryExpr:
			switch n.Op {
			case token.EQL, token.NEQ, token.LSS, token.LEQ, token.GTR, token.GEQ:
				c.wrap(n, "Inverted", "comparison")
			}
		case *ast.ExprStmt:
			if lock := lockOf(c, n.X); lock != "" {
				locks[lock] = append(locks[lock], n)
			}
		case *ast.DeferStmt:
			if lock := lockOf(c, n.Call); lock != "" {
				locks[lock] = append(locks[lock], n)
			}
		}
		return true
	})
	names := make([]string, 0, len(locks))
	for name := range locks {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		uses := locks[name]
		if len(uses) < 2 { // taken here and let go elsewhere
			continue
		}
		number := c.mutant(uses[0], "lock")
		for _, u := range uses {
			c.insert(c.offset(u.Pos()), fmt.Sprintf("if planted.Kept(%d) { ", number), 0)
			c.insert(c.offset(u.End()), " }", 0)
		}
	}
}

// lockOf names the lock that an expression takes or lets go, "" for any other expression.
func lockOf(c *changes, e ast.Expr) string {
	call, ok := e.(*ast.CallExpr)
	if !ok || len(call.Args) > 0 {
		return ""
	}
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	switch method.Sel.Name {
	case "Lock", "Unlock":
		return c.source(method.X)
	case "RLock", "RUnlock":
		return c.source(method.X) + " for reading"
	}
	return ""
}

// text is the file with all insertions.
func (c *changes) text() string {
	sort.SliceStable(c.inserts, func(i, j int) bool {
		a, b := c.inserts[i], c.inserts[j]
		if a.at != b.at {
			return a.at < b.at
		}
		return a.rank < b.rank
	})
	var out strings.Builder
	from := 0
	for _, i := range c.inserts {
		out.Write(c.data[from:i.at])
		out.WriteString(i.text)
		from = i.at
	}
	out.Write(c.data[from:])
	return out.String()
}

// Overlay writes changed sources, by the paths of those that there are, below dir, and returns the file for `go build -overlay`.
func Overlay(dir string, changed map[string]string) (path string, err error) {
	replace := map[string]string{}
	for from, source := range changed {
		to := filepath.Join(dir, fmt.Sprintf("%d-%s", len(replace), filepath.Base(from)))
		if err := os.WriteFile(to, []byte(source), 0o600); err != nil {
			return "", err
		}
		replace[from] = to
	}
	data, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, data, 0o600)
}

// Reached reads the numbers of the mutants whose places a run has reached, of the file that planted.ReachedVariable named; there is none
// if it reached none.
func Reached(path string) (map[int]bool, error) {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	reached := map[int]bool{}
	for _, line := range strings.Fields(string(data)) {
		if n, err := strconv.Atoi(line); err == nil {
			reached[n] = true
		}
	}
	return reached, nil
}
