const express = require('express');

const app = express();
app.get('/greet/:name', (request, response) => {
  response.json({ greeting: `Hello, ${request.params.name}!` });
});
app.listen(3000, () => console.log('listening on 3000'));

process.on('SIGTERM', () => process.exit(0));
