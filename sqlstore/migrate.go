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

// Migrate brings db's schema to the version that this package works with. It goes forward only; on a schema of a newer
// version it fails and changes nothing. It may be repeated, and be run by several processes at once.
func Migrate(ctx context.Context, db *sql.DB, d Dialect) error {
	dia, err := dialectOf(d)
	if err != nil {
		return err
	}
	steps, err := dia.steps()
	if err != nil {
		return err
	}
	s := &Store{db: db, d: dia, turn: make(chan struct{}, 1)}
	err = dia.atomic(ctx, s, func(x session) error {
		if err := dia.check(ctx, x); err != nil {
			return err
		}
		version, err := dia.version(ctx, x)
		if err != nil {
			return err
		}
		if version > len(steps) {
			return newerSchema(version, len(steps))
		}
		for ; version < len(steps); version++ {
			for _, statement := range steps[version] {
				if _, err := x.exec(ctx, statement); err != nil {
					return fmt.Errorf("sqlstore: migration %d: %w", version+1, err)
				}
			}
			if _, err := x.exec(ctx, "INSERT INTO keycote_schema (version) VALUES (?)", version+1); err != nil {
				return err
			}
		}
		return nil
	})
	return contextual(ctx, err)
}

// checkSchema fails unless the schema is exactly the one that this package works with.
func checkSchema(ctx context.Context, x session) error {
	steps, err := x.d.steps()
	if err != nil {
		return err
	}
	if err := x.d.check(ctx, x); err != nil {
		return err
	}
	version, err := x.d.version(ctx, x)
	switch {
	case err != nil:
		return err
	case version == 0:
		return fmt.Errorf("sqlstore: the database has no keycote schema: call sqlstore.Migrate first")
	case version < len(steps):
		return fmt.Errorf("sqlstore: the schema has version %d, this program needs %d: call sqlstore.Migrate first",
			version, len(steps))
	case version > len(steps):
		return newerSchema(version, len(steps))
	}
	return nil
}

func newerSchema(version, known int) error {
	return fmt.Errorf("sqlstore: the schema has version %d, this program knows %d: it was migrated by a newer Keycote",
		version, known)
}

// version reads the version of the schema; 0: there is none. keycote_schema has a row for each step that was made.
func (d *dialect) version(ctx context.Context, x session) (int, error) {
	var v sql.NullInt64
	if found, err := x.one(ctx, []any{&v}, d.hasSchema); err != nil || !found {
		return 0, err
	}
	_, err := x.one(ctx, []any{&v}, "SELECT MAX(version) FROM keycote_schema")
	return int(v.Int64), err
}

// steps returns the statements of every migration, in order.
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
