package remote

import (
	"context"
	"net/http"
	"os"
	"strings"
	"testing"

	"gocloud.dev/blob"
)

// An emulator of Google's storage must run at DDPRUN_GCS_EMULATOR (HOST:PORT), such as that of the Python package gcp-storage-emulator.
func TestGoogle(t *testing.T) {
	address := os.Getenv("DDPRUN_GCS_EMULATOR")
	if address == "" {
		t.Skip("DDPRUN_GCS_EMULATOR names no running emulator")
	}
	t.Setenv("STORAGE_EMULATOR_HOST", address)
	answer, err := http.Post("http://"+address+"/storage/v1/b?project=ddprun", "application/json", strings.NewReader(`{"name": "texts"}`)) // it may be there
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	bucket, err := blob.OpenBucket(context.Background(), "gs://texts")
	if err != nil {
		t.Fatal(err)
	}
	defer bucket.Close()
	servesTexts(t, bucket, "gs", "")
}
