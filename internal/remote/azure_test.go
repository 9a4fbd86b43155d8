package remote

import (
	"context"
	"encoding/base64"
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
	servesTexts(t, bucket, "az", query)
}
