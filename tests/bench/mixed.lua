-- wrk's mixed load: one page that computes after each four pages that wait.
local count = 0

function request()
    count = count + 1
    return wrk.format("GET", count % 5 == 0 and "/cpu" or "/wait")
end
