// Answers, with moby/patternmatcher, which paths an ignore file leaves out.
// stdin: a JSON array of {"text": ignore file, "paths": [...]}; stdout: an array of {"patterns", "excluded", "error"}.
package main

import (
	"encoding/json"
	"os"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

type question struct {
	Text  string
	Paths []string
}

type answer struct {
	Patterns []string `json:"patterns"`
	Excluded []bool   `json:"excluded"`
	Error    string   `json:"error"`
}

// ask follows the chain of parents from the top, as BuildKit's walk of a context does.
func ask(q question) (a answer, err error) {
	if a.Patterns, err = ignorefile.ReadAll(strings.NewReader(q.Text)); err != nil {
		return a, err
	}
	matcher, err := patternmatcher.New(a.Patterns)
	if err != nil {
		return a, err
	}
	for _, pattern := range a.Patterns { // a malformed one is reported only when it is tried: try each
		if _, err = patternmatcher.MatchesOrParentMatches("x", []string{strings.TrimPrefix(pattern, "!")}); err != nil {
			return a, err
		}
	}
	for _, path := range q.Paths {
		var info patternmatcher.MatchInfo
		var excluded bool
		parts := strings.Split(path, "/")
		for i := range parts {
			excluded, info, err = matcher.MatchesUsingParentResults(strings.Join(parts[:i+1], "/"), info)
			if err != nil {
				return a, err
			}
		}
		a.Excluded = append(a.Excluded, excluded)
	}
	return a, nil
}

func main() {
	var questions []question
	if err := json.NewDecoder(os.Stdin).Decode(&questions); err != nil {
		panic(err)
	}
	answers := []answer{}
	for _, q := range questions {
		a, err := ask(q)
		if err != nil {
			a.Error = err.Error()
		}
		answers = append(answers, a)
	}
	json.NewEncoder(os.Stdout).Encode(answers)
}
