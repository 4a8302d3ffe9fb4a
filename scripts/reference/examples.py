"""An example of every operation and value, as a revision has it: code that runs, and nothing about the answers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """A few lines of a revision.

    Attributes:
        code: the last statement is the operation or value.
        title: what differs from the other examples of the same name.
    """

    code: str
    title: str = ""


#: In the order of the page: what is done most comes first.
OPERATIONS: dict[str, tuple[Example, ...]] = {
    "CreateCollection": (
        Example(
            """op.CreateCollection(
    "products",
    vectors={"text": VectorParams(size=384, distance=Distance.COSINE)},
    payload_indexes={"shop": KeywordIndexParams(type="keyword", is_tenant=True)},
)"""
        ),
    ),
    "AddVector": (
        Example(
            """op.AddVector(
    "docs", "large", VectorParams(size=1024, distance=Distance.COSINE),
    values=Embed("large", text="{title} {body}"), quality=Recall(at_least=0.95),
)""",
            "Filled by a model",
        ),
        Example(
            'op.AddVector("docs", "terms", SparseVectorParams(modifier=Modifier.IDF), values=Empty())',
            "Empty, for the application to fill",
        ),
    ),
    "AlterVector": (
        Example(
            """op.AlterVector(
    "docs", "text", VectorParams(size=1024, distance=Distance.COSINE),
    values=Embed("large", text="body"), cutover="hold",
)""",
            "Another size, filled by another model",
        ),
        Example(
            """op.AlterVector(
    "docs", "text",
    VectorParams(size=384, distance=Distance.COSINE, datatype=Datatype.FLOAT16, on_disk=True),
)""",
            "Half the room for the same values",
        ),
    ),
    "Quantize": (
        Example(
            'op.Quantize("docs", "text", "binary", on_disk=True, quality=Compare(SameValue("product"), at_least=0.95))'
        ),
    ),
    "Reembed": (
        Example(
            """op.Reembed(
    "docs", "text", values=Embed("newer", text="body"),
    cutover="hold", quality=Recall(at_least=0.95),
)"""
        ),
    ),
    "DropVector": (Example('op.DropVector("docs", "image", cutover="immediate")'),),
    "RenameVector": (Example('op.RenameVector("docs", "text", "body", cutover="hold")'),),
    "UpdateCollection": (
        Example(
            'op.UpdateCollection("docs", optimizers_config=OptimizersConfigDiff(max_segment_size=200_000))',
            "A setting that only says how to serve",
        ),
        Example(
            """op.UpdateCollection(
    "docs", hnsw_config=HnswConfigDiff(m=32),
    quantization_config=ScalarQuantization(scalar=ScalarQuantizationConfig(type=ScalarType.INT8)),
)""",
            "Settings that rebuild every segment",
        ),
    ),
    "CreatePayloadIndex": (
        Example('op.CreatePayloadIndex("docs", "author", PayloadSchemaType.KEYWORD)', "A new index"),
        Example(
            'op.CreatePayloadIndex("docs", "kind", KeywordIndexParams(type="keyword", on_disk=True))',
            "An index that is there, in another way",
        ),
    ),
    "DropPayloadIndex": (Example('op.DropPayloadIndex("docs", "kind")'),),
    "TransformPoints": (
        Example(
            """def rename(point):
    return {**{k: v for k, v in point.payload.items() if k != "kind"}, "type": point.payload.get("kind")}

op.TransformPoints("docs", rename)"""
        ),
    ),
    "SetPayload": (
        Example(
            'op.SetPayload("docs", {"state": "new"}, filter={"must": [{"is_empty": {"key": "state"}}]}, max_share=1)'
        ),
    ),
    "DeletePayload": (Example('op.DeletePayload("docs", ["old_score", "old_state"], max_share=1)'),),
    "SyncPayload": (
        Example(
            """op.SyncPayload(
    "docs", "SELECT doc_id, author_id FROM documents", key="doc_id",
    fields={"author": "author_id"}, reason="authors were merged in SQL",
)"""
        ),
    ),
    "DeletePoints": (
        Example(
            """op.DeletePoints(
    "docs", filter={"must": [{"key": "kind", "match": {"value": "draft"}}]},
    reason="drafts are not searched any more", max_share=0.2,
)"""
        ),
    ),
    "DeleteOrphans": (
        Example(
            """op.DeleteOrphans(
    "docs", "SELECT doc_id FROM documents", key="doc_id",
    reason="rows were deleted without their points",
)"""
        ),
    ),
    "Rekey": (
        Example(
            'op.Rekey("docs", Uuid5("6ba7b811-9dad-11d1-80b4-00c04fd430c8", "{shop}:{doc}"), cutover="hold")',
        ),
    ),
    "Reshard": (
        Example('op.Reshard("docs", shard_number=6)', "Another number of shards"),
        Example('op.Reshard("docs", replication_factor=2)', "Another number of replicas"),
    ),
    "SetAlias": (Example('op.SetAlias("documents", "docs")'),),
    "DropCollection": (Example('op.DropCollection("docs")'),),
    "Call": (
        Example(
            """def tag(calling):
    calling.client.set_payload(calling.alias, {"checked": True}, points=[1, 2, 3])

op.Call("docs", tag, key="tag-1")"""
        ),
    ),
}

#: What the arguments of operations may be.
VALUES: dict[str, tuple[Example, ...]] = {
    "Embed": (
        Example('Embed("words", text="{title} {body}", on_failure="keep_without_vector")', "Of texts"),
        Example('Embed("clip", image="path")', "Of images"),
    ),
    "Compute": (
        Example(
            """def letters(point):
    text = str(point.payload.get("body", "")).lower()
    return [float(text.count(one)) for one in "abcdefgh"]

Compute(letters)"""
        ),
    ),
    "Shorten": (Example('Compute(Shorten("text", 1024))'),),
    "CopyOf": (
        Example('CopyOf("text")', "As it is"),
        Example('CopyOf("text", scale=Scale(-0.2, 0.2))', "Into a uint8 vector"),
    ),
    "Empty": (Example("Empty()"),),
    "Scale": (Example("Scale(-0.2, 0.2, tolerance=0.03)"),),
    "Recall": (Example('Recall("queries.jsonl", at_least=0.95, k=10)'),),
    "Compare": (
        Example('Compare("questions.jsonl", at_least=0.98, by="language")', "With questions of a file"),
        Example('Compare(KnownItem("title"), at_least=0.95)', "With questions that are made of the points"),
    ),
    "KnownItem": (Example('KnownItem("title")'),),
    "Sentence": (Example('Sentence("body")'),),
    "SameValue": (Example('SameValue("product_id")'),),
    "Logged": (Example('Logged("SELECT query, clicked_id AS relevant FROM searches")'),),
    "Checksum": (Example('Checksum("SELECT id, sha256 FROM images", column="sha256", missing="fail")'),),
    "WriteBack": (Example('WriteBack("UPDATE images SET indexed_at = :now WHERE id = :id")'),),
    "Uuid5": (Example('Uuid5("6ba7b811-9dad-11d1-80b4-00c04fd430c8", "{shop}:{doc}")'),),
}
