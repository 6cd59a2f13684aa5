// Prints the packages of RPM databases as go-rpmdb reads them, one JSON object a line and database.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path"

	_ "github.com/glebarez/go-sqlite"
	rpmdb "github.com/knqyf263/go-rpmdb/pkg"
)

type found struct {
	Name, Version, Release, Arch, SourceRpm, Vendor, Modularity string
	Epoch                                                       int
	Files                                                       map[string]string
}

func main() {
	for _, name := range os.Args[1:] {
		db, err := rpmdb.Open(name)
		if err != nil {
			fmt.Fprintln(os.Stderr, name, err)
			os.Exit(1)
		}
		packages, err := db.ListPackages()
		if err != nil {
			fmt.Fprintln(os.Stderr, name, err)
			os.Exit(1)
		}
		list := []found{}
		for _, p := range packages {
			f := found{p.Name, p.Version, p.Release, p.Arch, p.SourceRpm, p.Vendor, p.Modularitylabel, p.EpochNum(), map[string]string{}}
			for i, base := range p.BaseNames {
				if i < len(p.FileDigests) && p.FileDigests[i] != "" {
					f.Files[path.Join(p.DirNames[p.DirIndexes[i]], base)] = p.FileDigests[i]
				}
			}
			list = append(list, f)
		}
		line, _ := json.Marshal(list)
		fmt.Println(string(line))
	}
}
