// Makes a user of a MinIO server with exactly one policy. MinIO's own command line could do it, and is ten times as large.
//
// It reads one JSON object from its standard input, so that no password stands in the list of processes.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"log"
	"net/http"
	"os"

	"github.com/minio/madmin-go/v3"
)

type request struct {
	Endpoint     string          `json:"endpoint"`
	Secure       bool            `json:"secure"`
	RootUser     string          `json:"rootUser"`
	RootPassword string          `json:"rootPassword"`
	User         string          `json:"user"`
	Password     string          `json:"password"`
	Policy       json.RawMessage `json:"policy"`
}

func main() {
	var wanted request
	if err := json.NewDecoder(os.Stdin).Decode(&wanted); err != nil {
		log.Fatalf("failed to read what is wanted: %v", err)
	}
	if err := makeUser(context.Background(), wanted); err != nil {
		log.Fatal(err)
	}
}

func makeUser(ctx context.Context, wanted request) error {
	client, err := madmin.New(wanted.Endpoint, wanted.RootUser, wanted.RootPassword, wanted.Secure)
	if err != nil {
		return err
	}
	// A server of a test, on loopback, with a certificate of the test.
	client.SetCustomTransport(&http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}})
	if err := client.AddUser(ctx, wanted.User, wanted.Password); err != nil {
		return err
	}
	if err := client.AddCannedPolicy(ctx, wanted.User, wanted.Policy); err != nil {
		return err
	}
	_, err = client.AttachPolicy(ctx, madmin.PolicyAssociationReq{Policies: []string{wanted.User}, User: wanted.User})
	if madmin.ToErrorResponse(err).Code == "XMinioAdminPolicyChangeAlreadyApplied" {
		return nil
	}
	return err
}
