package remote

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"os"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"gocloud.dev/blob"
)

// Azure's emulator azurite must run at DDPRUN_AZURITE (HOST:PORT), with AZURITE_ACCOUNTS=ddprun:a2V5.
func TestAzure(t *testing.T) {
	address := os.Getenv("DDPRUN_AZURITE")
	if address == "" {
		t.Skip("DDPRUN_AZURITE names no running azurite")
	}
	key := base64.StdEncoding.EncodeToString([]byte("key"))
	t.Setenv("AZURE_STORAGE_ACCOUNT", "ddprun")
	t.Setenv("AZURE_STORAGE_KEY", key)
	ctx := context.Background()
	credential, err := azblob.NewSharedKeyCredential("ddprun", key)
	if err != nil {
		t.Fatal(err)
	}
	client, err := azblob.NewClientWithSharedKeyCredential("http://"+address+"/ddprun", credential, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = client.CreateContainer(ctx, "texts", nil) // it may be there
	query := "?localemu=true&protocol=http&domain=" + address
	bucket, err := blob.OpenBucket(ctx, "azblob://texts"+query)
	if err != nil {
		t.Fatal(err)
	}
	defer bucket.Close()
	put := func(key string, data []byte) {
		if err := bucket.WriteAll(ctx, key, data, nil); err != nil {
			t.Fatal(err)
		}
	}
	data := content(100_000)
	put("d/a.txt", data)
	put("d/b.bin", nil)
	s := quick(t)
	s.stall = 10e9
	names, err := s.List(ctx, "az://texts/d"+query, isText)
	if err != nil || len(names) != 1 || names[0] != "az://texts/d/a.txt" {
		t.Fatalf("%v, %v", names, err)
	}
	if got, err := readAll(s, names[0]); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	put("d/a.txt", data[1:])
	if _, err := readAll(s, names[0]); !errors.Is(err, ErrChanged) {
		t.Errorf("another version: %v", err)
	}
	if _, err := s.List(ctx, "az://texts/none"+query, isText); err == nil {
		t.Error("what is not there was listed")
	}
}
