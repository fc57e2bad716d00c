"""A counter of words."""

from collections import Counter

from flask import Flask, jsonify, request

app = Flask(__name__)


@app.get("/health")
def health():
    return jsonify(status="ok")


@app.get("/words")
def words():
    text = request.args.get("text", "")
    return jsonify(Counter(text.lower().split()))
