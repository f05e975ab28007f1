// lib/pq under database/sql. See checks.py for what a program prints.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/lib/pq"
)

const settings = "select string_agg(name || '=' || setting, '; ' order by name) from pg_settings where source = 'client'"

var background = context.Background()

func check(name string, run func() (string, error)) {
	seen, err := run()
	switch {
	case err != nil:
		fmt.Printf("FAIL %s: %s\n", name, strings.Join(strings.Fields(err.Error()), " "))
	case seen == "":
		fmt.Printf("ok %s\n", name)
	default:
		fmt.Printf("ok %s: %s\n", name, seen)
	}
}

func cannot(name, why string) { fmt.Printf("no %s: %s\n", name, why) }

// What a connection is told, with these in place of the usual.
func dsn(more ...string) string {
	told := map[string]string{
		"host": os.Getenv("AT_HOST"), "port": os.Getenv("AT_PORT"), "user": os.Getenv("AT_USER"), "password": os.Getenv("AT_PASSWORD"),
		"dbname": os.Getenv("AT_DATABASE"), "sslmode": "verify-full", "sslrootcert": os.Getenv("AT_CA"), "connect_timeout": "20",
	}
	for n := 0; n < len(more); n += 2 {
		told[more[n]] = more[n+1]
	}
	var text strings.Builder
	for name, value := range told {
		value = strings.ReplaceAll(strings.ReplaceAll(value, `\`, `\\`), `'`, `\'`)
		fmt.Fprintf(&text, "%s='%s' ", name, value)
	}
	return text.String()
}

func ask(statement string, more ...string) (told string, err error) {
	db, err := sql.Open("postgres", dsn(more...))
	if err != nil {
		return "", err
	}
	defer db.Close()
	err = db.QueryRow(statement).Scan(&told)
	return told, err
}

// Whether a connection like this is good for a statement.
func works(more ...string) func() (string, error) {
	return func() (string, error) { return ask("select ''", more...) }
}

// Turns what must fail, with this in the error, into success.
func fails(words string, err error) error {
	if err == nil {
		return errors.New("it did not fail")
	}
	text := err.Error()
	var refused *pq.Error
	if errors.As(err, &refused) {
		text = string(refused.Code) + " " + text
	}
	if !regexp.MustCompile(words).MatchString(text) {
		return err
	}
	return nil
}

func main() {
	fmt.Println("version 1.10")
	check("require", works("sslmode", "require", "sslrootcert", ""))
	check("verify-ca", works("sslmode", "verify-ca"))
	check("verify-full", works())
	check("wrong-name", func() (string, error) {
		_, err := ask("select 1", "host", "127.0.0.1")
		return "", fails("cannot validate certificate for 127.0.0.1", err)
	})
	check("wrong-authority", func() (string, error) {
		_, err := ask("select 1", "sslrootcert", os.Getenv("AT_OTHER_CA"))
		return "", fails("unknown authority", err)
	})
	cannot("binding", "it has only SCRAM-SHA-256")
	check("no-binding", works())
	cannot("direct", "it has only SSLRequest")
	check("settings", func() (string, error) {
		return ask(settings, "application_name", "tests 'and' more", "search_path", `"a b",c`, "TimeZone", "Asia/Tokyo", "DateStyle", "ISO, MDY", "statement_timeout", "12345", "options", "-c geqo=off --work-mem=1234kB -c IntervalStyle=iso_8601")
	})
	check("wrong-password", func() (string, error) {
		_, err := ask("select 1", "password", "wrong")
		return "", fails("28P01 .*authentication failed for user", err)
	})
	if port := os.Getenv("AT_DENIED_PORT"); port != "" {
		check("denied", func() (string, error) {
			_, err := ask("select 1", "port", port)
			if other := fails("28000 .*PC-", err); other != nil {
				return "", other
			}
			return regexp.MustCompile(`PC(-[0-9A-Z]{4}){3}`).FindString(err.Error()), nil
		})
		check("connect-timeout", func() (string, error) {
			_, err := ask("select 1", "port", os.Getenv("AT_SILENT_PORT"), "connect_timeout", "1")
			return "", fails("timeout", err)
		})
	}
	db, err := sql.Open("postgres", dsn())
	if err != nil {
		panic(err)
	}
	db.SetMaxOpenConns(1)
	check("prepared", func() (string, error) { return "", prepared(db) })
	cannot("pipeline", "one statement at a time")
	if err := copies(db); err != nil {
		fmt.Printf("FAIL copy: %v\n", err)
	} else {
		fmt.Println("part copy: in only; it has no COPY out")
	}
	check("notify", func() (string, error) { return "", notify() })
	check("large-object", func() (string, error) { return "", largeObject(db) })
	check("cancel", func() (string, error) {
		soon, done := context.WithTimeout(background, 300*time.Millisecond)
		defer done()
		_, err := db.ExecContext(soon, "select pg_sleep(30)")
		if other := fails("57014", err); other != nil {
			return "", other
		}
		return "", db.QueryRow("select 1").Scan(new(int))
	})
	check("statement-timeout", func() (string, error) {
		_, err := ask("select pg_sleep(30)", "statement_timeout", "200")
		return "", fails("57014", err)
	})
	check("binary", func() (string, error) {
		own, err := sql.Open("postgres", dsn("binary_parameters", "yes"))
		if err != nil {
			return "", err
		}
		defer own.Close()
		given, told := bytes.Repeat([]byte{0, 255}, 1000), []byte(nil)
		err = own.QueryRow("select $1::bytea", given).Scan(&told)
		if err == nil && !bytes.Equal(told, given) {
			err = errors.New("other bytes")
		}
		return "", err
	})
	check("error", func() (string, error) {
		_, err := db.Exec("select * from nowhere")
		var told *pq.Error
		if !errors.As(err, &told) {
			return "", fmt.Errorf("not an error: %v", err)
		}
		return string(told.Code) + " " + told.Message, nil
	})
	check("large-value", func() (string, error) {
		large, told := strings.Repeat("portcullis", 2000000), ""
		err := db.QueryRow("select $1::text", large).Scan(&told)
		if err == nil && told != large {
			err = errors.New("another value")
		}
		return "", err
	})
}

func prepared(db *sql.DB) error {
	statement, err := db.Prepare("select $1::int + 1")
	if err != nil {
		return err
	}
	defer statement.Close()
	for n := 0; n < 1000; n++ {
		var told int
		if err := statement.QueryRow(n).Scan(&told); err != nil || told != n+1 {
			return fmt.Errorf("%d after %d: %v", told, n, err)
		}
	}
	return nil
}

func text(n int) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(fmt.Sprint(n)))) }

// There is no COPY out: what went in is read back by a query.
func copies(db *sql.DB) error {
	const count = 50000
	if _, err := db.Exec("create temp table t (n int, b text)"); err != nil {
		return err
	}
	own, err := db.Begin()
	if err != nil {
		return err
	}
	in, err := own.Prepare(pq.CopyIn("t", "n", "b"))
	if err != nil {
		return err
	}
	for n := 0; n < count; n++ {
		if _, err := in.Exec(n, text(n)); err != nil {
			return err
		}
	}
	if _, err := in.Exec(); err != nil {
		return err
	}
	if err := in.Close(); err != nil {
		return err
	}
	if err := own.Commit(); err != nil {
		return err
	}
	rows, err := db.Query("select n, b from t order by n")
	if err != nil {
		return err
	}
	defer rows.Close()
	seen := 0
	for ; rows.Next(); seen++ {
		var n int
		var b string
		if err := rows.Scan(&n, &b); err != nil || n != seen || b != text(n) {
			return fmt.Errorf("row %d: %v", seen, err)
		}
	}
	if seen != count {
		return fmt.Errorf("%d rows", seen)
	}
	return rows.Err()
}

func notify() error {
	listener := pq.NewListener(dsn(), time.Second, time.Second, nil)
	defer listener.Close()
	if err := listener.Listen("lib_pq"); err != nil {
		return err
	}
	if _, err := ask("select pg_notify('lib_pq', repeat('x', 7000))"); err != nil {
		return err
	}
	select {
	case told := <-listener.Notify:
		if told == nil || told.Extra != strings.Repeat("x", 7000) {
			return errors.New("something else was heard")
		}
		return nil
	case <-time.After(10 * time.Second):
		return errors.New("nothing heard")
	}
}

func largeObject(db *sql.DB) error {
	blob, told, oid := bytes.Repeat([]byte{7}, 3000000), []byte(nil), 0
	if err := db.QueryRow("select lo_from_bytea(0, $1)", blob).Scan(&oid); err != nil {
		return err
	}
	if err := db.QueryRow("select lo_get($1)", oid).Scan(&told); err != nil {
		return err
	}
	if !bytes.Equal(blob, told) {
		return errors.New("another object")
	}
	_, err := db.Exec("select lo_unlink($1)", oid)
	return err
}
