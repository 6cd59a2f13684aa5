// referrers-registry is an in-memory registry that lists referrers over the API but never sends
// OCI-Subject, so that clients also write the fallback tag: a reader must merge both.
//
// usage: referrers-registry 127.0.0.1:PORT
package main

import (
	"log"
	"net/http"
	"os"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	handler := registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(os.Stderr, "", 0)))
	log.Fatal(http.ListenAndServe(os.Args[1], handler))
}
