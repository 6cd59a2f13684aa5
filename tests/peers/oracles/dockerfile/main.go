// Parses Dockerfiles and expands words with BuildKit's own packages.
// stdin: a JSON array of {"text": …} (a Dockerfile) or {"word", "escape", "env"}; stdout: an array of answers.
package main

import (
	"encoding/json"
	"os"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

type question struct {
	Text   string
	Word   *string
	Escape string
	Env    []string
}

type node struct {
	Keyword  string           `json:"keyword"`
	Flags    []string         `json:"flags"`
	Args     []string         `json:"args"`
	Exec     bool             `json:"exec"`
	First    int              `json:"first"`
	Last     int              `json:"last"`
	Heredocs []parser.Heredoc `json:"heredocs"`
}

type answer struct {
	Nodes  []node   `json:"nodes"`
	Stages []string `json:"stages"`
	Escape string   `json:"escape"`
	Result string   `json:"result"`
	Words  []string `json:"words"`
	Error  string   `json:"error"`
}

func read(q question) (a answer, err error) {
	if q.Word != nil {
		lex := shell.NewLex(rune(q.Escape[0]))
		env := shell.EnvsFromSlice(q.Env)
		if a.Result, _, err = lex.ProcessWord(*q.Word, env); err != nil {
			return a, err
		}
		a.Words, err = lex.ProcessWords(*q.Word, env)
		return a, err
	}
	parsed, err := parser.Parse(strings.NewReader(q.Text))
	if err != nil {
		return a, err
	}
	a.Escape = string(parsed.EscapeToken)
	for _, n := range parsed.AST.Children {
		out := node{Keyword: n.Value, Flags: n.Flags, Exec: n.Attributes["json"], First: n.StartLine, Last: n.EndLine, Heredocs: n.Heredocs}
		for arg := n.Next; arg != nil && len(arg.Children) == 0; arg = arg.Next {
			out.Args = append(out.Args, arg.Value)
		}
		a.Nodes = append(a.Nodes, out)
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	if err == nil && len(stages) == 0 {
		a.Error = "no stages"
	}
	for _, stage := range stages {
		a.Stages = append(a.Stages, stage.Name)
	}
	return a, err
}

func main() {
	var questions []question
	if err := json.NewDecoder(os.Stdin).Decode(&questions); err != nil {
		panic(err)
	}
	answers := []answer{}
	for _, q := range questions {
		a, err := read(q)
		if err != nil {
			a.Error = err.Error()
		}
		answers = append(answers, a)
	}
	json.NewEncoder(os.Stdout).Encode(answers)
}
