// Answers, with the Go modules that other scanners use, how two versions are ordered.
// stdin: a JSON array of {"scheme", "a", "b"}; stdout: an array of -1, 0, 1, or null for "no such version".
package main

import (
	"encoding/json"
	goversion "go/version"
	"os"
	"strings"

	gem "github.com/aquasecurity/go-gem-version"
	npm "github.com/aquasecurity/go-npm-version/pkg"
	pep440 "github.com/aquasecurity/go-pep440-version"
	bitnami "github.com/bitnami/go-version/pkg/version"
	apk "github.com/knqyf263/go-apk-version"
	deb "github.com/knqyf263/go-deb-version"
	rpm "github.com/knqyf263/go-rpm-version"
	maven "github.com/masahiro331/go-mvn-version"
	"golang.org/x/mod/semver"
)

type comparable[T any] interface{ Compare(T) int }

// with parses both and compares; every module has this shape, under its own names.
func with[T comparable[T]](parse func(string) (T, error)) func(a, b string) *int {
	return func(a, b string) *int {
		left, err := parse(a)
		right, other := parse(b)
		if err != nil || other != nil {
			return nil
		}
		order := left.Compare(right)
		return &order
	}
}

// debian is on its own: its Compare wants a pointer on one side only.
func debian(a, b string) *int {
	left, err := deb.NewVersion(a)
	right, other := deb.NewVersion(b)
	if err != nil || other != nil {
		return nil
	}
	order := left.Compare(right)
	return &order
}

func modules(a, b string) *int {
	a, b = "v"+strings.TrimPrefix(a, "v"), "v"+strings.TrimPrefix(b, "v")
	if !semver.IsValid(a) || !semver.IsValid(b) {
		return nil
	}
	order := semver.Compare(a, b)
	return &order
}

func toolchains(a, b string) *int {
	if !goversion.IsValid(a) || !goversion.IsValid(b) {
		return nil
	}
	order := goversion.Compare(a, b)
	return &order
}

func main() {
	schemes := map[string]func(a, b string) *int{
		"apk":     with(func(text string) (apk.Version, error) { return apk.NewVersion(text) }),
		"bitnami": with(bitnami.Parse), "deb": debian, "gem": with(gem.NewVersion),
		"maven": with(maven.NewVersion), "npm": with(npm.NewVersion), "pep440": with(pep440.Parse),
		"rpm": with(func(text string) (rpm.Version, error) { return rpm.NewVersion(text), nil }),
		"go":  modules, "toolchain": toolchains,
	}
	var questions []struct{ Scheme, A, B string }
	if err := json.NewDecoder(os.Stdin).Decode(&questions); err != nil {
		panic(err)
	}
	answers := make([]*int, len(questions))
	for i, q := range questions {
		answers[i] = schemes[q.Scheme](q.A, q.B)
	}
	json.NewEncoder(os.Stdout).Encode(answers)
}
