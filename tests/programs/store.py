"""Asks an object store as its owner would: `store.py URL COMMAND …`, with the access key in the environment.

make BUCKET lock|plain USER     a bucket, and a user who may use it; prints the user's access key; unsigned requests are refused from then on
get BUCKET FOLDER               all objects, as files
put BUCKET KEY FILE             over whatever is there
remove BUCKET KEY               as its owner removes a file
destroy BUCKET KEY              its only version, for good; prints `refused` if the store does not let it go
locked BUCKET                   prints the keys that cannot be removed, with mode and date
open BUCKET                     anybody may read it, unsigned
"""

import json
import os
import sys
import urllib.request

import boto3
from botocore.exceptions import ClientError


def client(kind, url):
    return boto3.client(kind, endpoint_url=url, region_name="eu-central-1")


def auth(url, count):
    # Of a form, which is what it would be taken for, the body would not be looked at.
    headers = {"Content-Type": "text/plain"}
    request = urllib.request.Request(url + "/moto-api/reset-auth", str(count).encode(), headers, method="POST")
    urllib.request.urlopen(request).read()


def make(url, bucket, lock, user):
    s3, iam = client("s3", url), client("iam", url)
    where = {"LocationConstraint": "eu-central-1"}
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=where, ObjectLockEnabledForBucket=lock == "lock")
    iam.create_user(UserName=user)
    actions = ["s3:*"]
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
    iam.put_user_policy(UserName=user, PolicyName="store", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=user)["AccessKey"]
    auth(url, 0)
    print(key["AccessKeyId"], key["SecretAccessKey"])


def keys(s3, bucket):
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", []):
            yield item["Key"]


def get(url, bucket, folder):
    s3 = client("s3", url)
    for key in keys(s3, bucket):
        path = os.path.join(folder, key)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(s3.get_object(Bucket=bucket, Key=key)["Body"].read())


def put(url, bucket, key, path):
    with open(path, "rb") as file:
        client("s3", url).put_object(Bucket=bucket, Key=key, Body=file.read())


def remove(url, bucket, key):
    client("s3", url).delete_object(Bucket=bucket, Key=key)


def destroy(url, bucket, key):
    s3 = client("s3", url)
    versions = s3.list_object_versions(Bucket=bucket, Prefix=key)["Versions"]
    for version in versions:
        if version["Key"] == key:
            try:
                s3.delete_object(Bucket=bucket, Key=key, VersionId=version["VersionId"])
                print("destroyed")
            except ClientError as error:
                print("refused", error.response["Error"]["Code"])


def locked(url, bucket):
    s3 = client("s3", url)
    for key in keys(s3, bucket):
        head = s3.head_object(Bucket=bucket, Key=key)
        if "ObjectLockMode" in head:
            until = head["ObjectLockRetainUntilDate"].strftime("%Y-%m-%dT%H:%M:%SZ")
            print(key, head["ObjectLockMode"], until)


def open_(url, bucket):
    resource = f"arn:aws:s3:::{bucket}/*"
    allow = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": resource}
    policy = {"Version": "2012-10-17", "Statement": [allow]}
    client("s3", url).put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    auth(url, 1000000)


COMMANDS = {"make": make, "get": get, "put": put, "remove": remove, "destroy": destroy, "locked": locked, "open": open_}
COMMANDS[sys.argv[2]](sys.argv[1], *sys.argv[3:])
