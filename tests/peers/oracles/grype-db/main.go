// Builds a grype database (schema 6) from records in the shape of grype's own feeds; asks nobody.
//
// usage: oracle-grype-db IN OUT CAPTURED
//
//	IN     a folder: PROVIDER/results/*.json, each file {"identifier", "item", "schema"}
//	OUT    gets vulnerability.db
//	CAPTURED  RFC 3339: when its sources were read; the database itself says that it was built now
package main

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/OneOfOne/xxhash"
	"github.com/anchore/grype/grype/db"
	"github.com/anchore/grype/grype/db/provider"
)

const state = `{"provider": %q, "urls": ["https://feeds.example/"], "store": "flat-file", "timestamp": %q,
 "version": 1, "distribution_version": 1, "processor": "vunnel@0.54.0", "stale": false,
 "listing": {"digest": %q, "path": "checksums", "algorithm": "xxh64"},
 "schema": {"version": "1.0.3", "url":
  "https://raw.githubusercontent.com/anchore/vunnel/main/schema/provider-workspace-state/schema-1.0.3.json"}}`

func hash(data []byte) string {
	hasher := xxhash.New64()
	_, _ = hasher.Write(data)
	return fmt.Sprintf("%x", hasher.Sum(nil))
}

// describe writes what grype's builder wants beside the records of a provider, and reads it back.
func describe(folder string, built time.Time) (*provider.State, error) {
	records, err := filepath.Glob(filepath.Join(folder, "results", "*.json"))
	if err != nil {
		return nil, err
	}
	var listing strings.Builder
	for _, record := range records {
		data, err := os.ReadFile(record)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&listing, "%s  results/%s\n", hash(data), filepath.Base(record))
	}
	if err := os.WriteFile(filepath.Join(folder, "checksums"), []byte(listing.String()), 0o600); err != nil {
		return nil, err
	}
	text := fmt.Sprintf(state, filepath.Base(folder), built.Format(time.RFC3339), hash([]byte(listing.String())))
	path := filepath.Join(folder, "metadata.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return provider.ReadState(path)
}

func build(in, out, when string) error {
	built, err := time.Parse(time.RFC3339, when)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	folders, err := filepath.Glob(filepath.Join(in, "*"))
	if err != nil {
		return err
	}
	var states provider.States
	for _, folder := range folders {
		found, err := describe(folder, built)
		if err != nil {
			return err
		}
		states = append(states, *found)
	}
	return db.Build(db.BuildConfig{
		SchemaVersion: 6, Directory: out, States: states, Timestamp: built, Hydrate: true, BatchSize: 100,
	})
}

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: oracle-grype-db IN OUT CAPTURED")
	}
	if err := build(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		log.Fatal(err)
	}
}
