package remote

import (
	"context"
	"errors"
	"io"

	"cloud.google.com/go/storage"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	azure "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"gocloud.dev/blob"
	_ "gocloud.dev/blob/azureblob" // az://
	_ "gocloud.dev/blob/gcsblob"   // gs://
	_ "gocloud.dev/blob/s3blob"    // s3://
)

// blobObject is an object of a bucket.
type blobObject struct {
	bucket *blob.Bucket
	key    string
}

func (o *blobObject) stat(ctx context.Context) (version, error) {
	attributes, err := o.bucket.Attributes(ctx, o.key)
	if err != nil {
		return version{}, bucketError(o.bucket, err)
	}
	v := version{bytes: attributes.Size, tag: attributes.ETag}
	var google storage.ObjectAttrs
	if attributes.As(&google) {
		v.generation = google.Generation
	}
	return v, nil
}

// open asks for the version alone; a service that does not heed that is found out by the tag and size of its answer.
func (o *blobObject) open(ctx context.Context, v version, offset, length int64) (io.ReadCloser, error) {
	options := &blob.ReaderOptions{BeforeRead: func(as func(any) bool) error {
		var amazon *s3.GetObjectInput
		var microsoft *azblob.DownloadStreamOptions
		var google **storage.ObjectHandle
		switch {
		case as(&amazon):
			amazon.IfMatch = &v.tag
		case as(&microsoft):
			tag := azcore.ETag(v.tag)
			microsoft.AccessConditions = &azure.AccessConditions{ModifiedAccessConditions: &azure.ModifiedAccessConditions{IfMatch: &tag}}
		case as(&google):
			*google = (*google).Generation(v.generation)
		}
		return nil
	}}
	r, err := o.bucket.NewRangeReader(ctx, o.key, offset, length, options)
	if err != nil {
		err = bucketError(o.bucket, err)
		if v.generation != 0 && errors.Is(err, ErrNotFound) { // Google forgets a version once there is another
			if _, now := o.stat(ctx); now == nil {
				err = &failure{err: ErrChanged}
			}
		}
		return nil, err
	}
	var amazon s3.GetObjectOutput
	if r.As(&amazon) && amazon.ETag != nil && *amazon.ETag != v.tag || r.Size() != v.bytes {
		r.Close()
		return nil, &failure{err: ErrChanged}
	}
	return r, nil
}
