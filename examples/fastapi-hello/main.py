from fastapi import FastAPI, WebSocket
from fastapi.responses import FileResponse

app = FastAPI()


@app.get("/")
def page():
    return FileResponse("page.html")


@app.get("/hello/{name}")
def hello(name: str):
    return {"hello": name}


@app.websocket("/echo")
async def echo(websocket: WebSocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)
