package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"strings"
)

//go:embed migrations
var migrations embed.FS

// Migrate brings db's schema to the version that this package works with. It goes forward only, may be repeated, and
// may be run by several processes at once, while others work with the store. On a schema of a newer version it does
// nothing, and fails if that version is none that this package can work with.
//
// On MySQL an interrupted Migrate stays where it is, and the next one goes on; elsewhere it leaves nothing.
func Migrate(ctx context.Context, db *sql.DB, d Dialect) error {
	dia, err := dialectOf(d)
	if err != nil {
		return err
	}
	if db == nil {
		return errNoDatabase
	}
	steps, err := dia.steps()
	if err != nil {
		return err
	}
	s := &Store{db: db, d: dia, turn: make(chan struct{}, 1)}
	err = dia.migrating(ctx, s, func(x session) error {
		if err := dia.check(ctx, x); err != nil {
			return err
		}
		version, oldest, err := dia.version(ctx, x)
		if err != nil {
			return err
		}
		if oldest > len(steps) {
			return newerSchema(version, len(steps))
		}
		for ; version < len(steps); version++ {
			for _, statement := range steps[version] {
				if _, err := x.exec(ctx, statement); err != nil {
					return fmt.Errorf("sqlstore: migration %d: %w", version+1, err)
				}
			}
		}
		return nil
	})
	return contextual(ctx, err)
}

// Schema returns what [Migrate] does, for those who have a tool of their own for it: one script for each version, in
// their order, to be run once each. A script ends by noting its version in the table that [New] looks at. A later
// release may have more scripts; those that were there never change.
func Schema(d Dialect) ([]string, error) {
	dia, err := dialectOf(d)
	if err != nil {
		return nil, err
	}
	steps, err := dia.steps()
	if err != nil {
		return nil, err
	}
	scripts := make([]string, len(steps))
	for i, step := range steps {
		for _, statement := range step {
			scripts[i] += strings.TrimRight(dia.text(statement), "\n") + ";\n"
		}
	}
	return scripts, nil
}

// checkSchema fails unless the schema is one that this package works with.
func checkSchema(ctx context.Context, x session) error {
	steps, err := x.d.steps()
	if err != nil {
		return err
	}
	if err := x.d.check(ctx, x); err != nil {
		return err
	}
	version, oldest, err := x.d.version(ctx, x)
	switch {
	case err != nil:
		return err
	case version == 0:
		return fmt.Errorf("sqlstore: the database has no keycote schema: call sqlstore.Migrate first")
	case version < len(steps):
		return fmt.Errorf("sqlstore: the schema has version %d, this program needs %d: call sqlstore.Migrate first",
			version, len(steps))
	case oldest > len(steps):
		return newerSchema(version, len(steps))
	}
	return nil
}

func newerSchema(version, known int) error {
	return fmt.Errorf("sqlstore: the schema has version %d, this program knows %d: it was migrated by a newer Keycote",
		version, known)
}

// version reads the version of the schema, 0 when there is none, and the oldest whose programs can work with it.
// keycote_schema has a row for each step that was made.
func (d *dialect) version(ctx context.Context, x session) (version, oldest int, err error) {
	if found, err := x.one(ctx, []any{new(any)}, d.hasSchema); err != nil || !found {
		return 0, 0, err
	}
	var old sql.NullInt64
	_, err = x.one(ctx, []any{&version, &old}, "SELECT version, oldest FROM keycote_schema ORDER BY version DESC LIMIT 1")
	if !old.Valid {
		old.Int64 = int64(version)
	}
	return version, int(old.Int64), err
}

// steps returns the statements of every migration, in order. The last one of each notes its version.
func (d *dialect) steps() ([][]string, error) {
	dir := "migrations/" + d.name
	files, err := fs.ReadDir(migrations, dir)
	if err != nil {
		return nil, err
	}
	steps := make([][]string, 0, len(files))
	for i, f := range files {
		if !strings.HasPrefix(f.Name(), fmt.Sprintf("%04d_", i+1)) {
			return nil, fmt.Errorf("sqlstore: %s/%s is out of its order", dir, f.Name())
		}
		text, err := fs.ReadFile(migrations, dir+"/"+f.Name())
		if err != nil {
			return nil, err
		}
		steps = append(steps, statements(string(text)))
	}
	return steps, nil
}

// statements splits a migration at each semicolon that ends a line. Not every driver takes more than one at a time.
func statements(text string) []string {
	var all []string
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		if line == "" || strings.HasPrefix(line, "--") {
			continue
		}
		end := strings.HasSuffix(line, ";")
		b.WriteString(strings.TrimSuffix(line, ";"))
		b.WriteByte('\n')
		if end {
			all = append(all, b.String())
			b.Reset()
		}
	}
	if b.Len() > 0 {
		all = append(all, b.String())
	}
	return all
}
