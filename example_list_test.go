package keycote_test

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEveryVerbHasAnExample: an Example with output for each exported method of Manager, and for what a host needs
// around it. Examples without output are compiled and never run.
func TestEveryVerbHasAnExample(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob("example*_test.go")
	require.NoError(t, err)
	var files []*ast.File
	set := token.NewFileSet()
	for _, name := range names {
		file, err := parser.ParseFile(set, name, nil, parser.ParseComments)
		require.NoError(t, err)
		files = append(files, file)
	}
	output := map[string]bool{}
	for _, e := range doc.Examples(files...) {
		require.NotEmpty(t, e.Output, "Example%s", e.Name)
		output[e.Name] = true
	}
	wanted := []string{
		"", "New", "NewSecret", "NewKEK", "LocalKEK", "NewValidator", "Message", "WithActor", "ByRole", "Grant_Allows",
		"GrantFrom",
	}
	for _, export := range exportsOf(t, rootFiles(t)) {
		if verb, ok := strings.CutPrefix(export, "method Manager."); ok {
			wanted = append(wanted, "Manager_"+verb)
		}
	}
	require.Greater(t, len(wanted), 30, "the methods were not found")
	for _, name := range wanted {
		require.True(t, output[name], "there is no Example%s with output", name)
	}
}
