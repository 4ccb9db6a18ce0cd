// Answers with what it was sent: the same bytes under the same content type.

module.exports = (req, res) => {
  res.type(req.get("content-type") || "application/octet-stream").send(req.rawBody);
};
